"""Where the numbers come from: stages, times, keys, versions, templates, recipe."""

from __future__ import annotations

from typing import Any

from eval.reporting.charts import bar_chart
from eval.reporting.compare import display_name
from eval.reporting.evidence import Evidence
from eval.reporting.page import Block, Code, Details, Figures, Heading, PageTable, Paragraph, number
from wrpo.recipe import dump_recipe

_NOTE = (
    "Seconds are those of the process that finished the stage; a stage that was resumed took "
    "longer. A key is a hash of everything that decides a stage, its inputs' keys included."
)


def provenance(
    evidence: Evidence, stages: list[dict[str, Any]], *, judges_cost: str
) -> list[Block]:
    """Recipe, stages with times, keys and cost, versions, chat templates, first prompts.

    Args:
        judges_cost: what the judges cost, as a sentence; empty without judges.
    """
    rows = [
        [
            stage["name"],
            stage["state"],
            stage.get("written", "–"),
            number(stage["seconds"], digits=1) if "seconds" in stage else "–",
            stage.get("key_digest", "–"),
        ]
        for stage in stages
    ]
    total = sum(stage.get("seconds", 0.0) for stage in stages)
    return [
        Heading("Provenance"),
        Paragraph(f"The stages took {total:,.0f} s in all. {judges_cost}".strip()),
        *_times(stages),
        Details(
            f"All {len(rows)} stages: state, time, key",
            [
                PageTable(["stage", "state", "finished", "seconds", "key"], rows),
                Paragraph(_NOTE, "note"),
            ],
        ),
        Heading("Versions and models", 3),
        _versions(stages),
        _models(evidence),
        _first_prompts(evidence),
        Details("Commands, as they were run", [Code(_commands(stages))]),
        Details("Resolved recipe", [Code(dump_recipe(evidence.recipe), "yaml")]),
    ]


def _times(stages: list[dict[str, Any]]) -> list[Block]:
    """Time per kind of stage, and of each arm: sample/a and sample/b are one."""
    seconds: dict[str, float] = {}
    for stage in stages:
        kind = stage["name"] if stage["kind"] == "train" else stage["kind"]
        seconds[kind] = seconds.get(kind, 0.0) + stage.get("seconds", 0.0)
    known = {kind: value for kind, value in seconds.items() if value > 0}
    if not known:
        return []
    return [Figures([bar_chart(known, title="Seconds per kind of stage", unit=" s", colour=6)])]


def _versions(stages: list[dict[str, Any]]) -> PageTable:
    found: dict[str, set[str]] = {}
    for stage in stages:
        for package, version in stage.get("versions", {}).items():
            found.setdefault(package, set()).add(version)
    rows = [[package, ", ".join(sorted(versions))] for package, versions in sorted(found.items())]
    return PageTable(["package", "version"], rows)


def _models(evidence: Evidence) -> PageTable:
    rows = [
        [
            display_name(evidence.recipe, name),
            str(results["model"]["path"]),
            str(results["model"]["backend"]),
            f"`{results['model']['chat_template_hash']}`",
        ]
        for name, results in evidence.results.items()
    ]
    return PageTable(["model", "path", "engine", "hash of the chat template"], rows)


def _commands(stages: list[dict[str, Any]]) -> str:
    return "\n".join(stage["command"] for stage in stages if "command" in stage)


def _first_prompts(evidence: Evidence) -> Details:
    blocks: list[Block] = []
    for name, results in evidence.results.items():
        inner: list[Block] = []
        for task, facts in results["tasks"].items():
            first = facts["first_prompt"]
            text = f"{first['text']}\n\ntoken ids: {first['token_ids']}"
            inner += [Paragraph(task), Code(f"{text}\n{facts['generation_kwargs']}")]
        blocks.append(Details(display_name(evidence.recipe, name), inner))
    return Details("The first prompt as each model saw it, with token ids", blocks)
