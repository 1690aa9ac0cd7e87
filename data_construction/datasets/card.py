"""The dataset card of an export: what it is, how it was made, counts, and what is left to fill in.

It names models and datasets, never paths, commands or anything of the machine.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from wrpo.display.markdown import cell, code, inline, name
from wrpo.ids import digest
from wrpo.pipeline.data_stages import data_identity
from wrpo.pipeline.stage import model_identity
from wrpo.pipeline.tables import ROW_RESPONSES, Row
from wrpo.recipe import TARGET, Recipe
from wrpo.recipe.prompts import dataset_responses

TO_FILL = "(fill in)"

_WHAT = {
    "sft": "Prompts with the best response over all sources, for supervised fine-tuning.",
    "triples": "Preference triples of implicit model fusion (WRPO, arXiv 2412.03187): "
    "`source_chosen` (y_ws) is the best response of all sources, `chosen` (y_wt) and `rejected` "
    "(y_l) are the best and the worst response of the target.",
    "pairs": "Preference pairs of one source each (FuseChat-3.0): `chosen` scores higher than "
    "`rejected`.",
    "source_pairs": "Preference pairs of every source with two responses of different scores: its "
    "best and its worst response.",
    "delta": "Preference pairs by model (delta learning, arXiv 2507.06187): `chosen` is of a "
    "stronger model than `rejected`; nothing scored them.",
    "revisions": "Prompts with drafts of responses, and what a reviser makes of them, for "
    "supervised training.",
    "responses": "Prompts with all responses of some models, for supervised fine-tuning.",
    "rejection": "Prompts with responses that passed rejection sampling, for supervised "
    "fine-tuning.",
}


def card(
    recipe: Recipe,
    table: str,
    rows: list[Row],
    manifest: dict[str, Any],
    *,
    layout: str,
    file: str,
    licence: str | None,
) -> str:
    """The text of README.md.

    Args:
        manifest: of the build stage.
        file: name of the data file beside the card.
        licence: identifier for the header; None leaves it to be filled in.
    """
    sections = [
        _header(file, licence),
        f"# {recipe.run}: {table}\n\n{_WHAT[table]}\n\nLayout: `{layout}`.",
        f"## Rows\n\n{_counts(rows, manifest)}",
        f"## How it was made\n\n{_origin(recipe, table, manifest)}",
        f"## Who answered\n\n{_responses(recipe, table, rows)}",
        f"## Licence\n\n{_licence(recipe, licence)}",
    ]
    return "\n\n".join(sections) + "\n"


def _header(file: str, licence: str | None) -> str:
    lines = ["---"]
    if licence:
        lines.append(f"license: {json.dumps(licence)}")
    lines += ["configs:", "- config_name: default", "  data_files:", "  - split: train"]
    return "\n".join([*lines, f"    path: {file}", "---"])


def _counts(rows: list[Row], manifest: dict[str, Any]) -> str:
    reasons = manifest.get("dropped_reasons") or {}
    lines = [f"- rows: {len(rows)}", f"- prompts: {len({row['prompt_id'] for row in rows})}"]
    cut = sum(bool(row.get("unfinished")) for row in rows)
    if cut:
        lines.append(f"- rows with a response that max_tokens cut: {cut}")
    lines += [f"- left out, {inline(reason)}: {count}" for reason, count in sorted(reasons.items())]
    return "\n".join(lines)


def _origin(recipe: Recipe, table: str, manifest: dict[str, Any]) -> str:
    lines = [f"- recipe: `{digest(recipe.model_dump(mode='json'))}`, seed {recipe.seed}"]
    lines.append(f"- key of the table: `{manifest['key_digest']}`")
    lines.append(f"- wrpo {manifest['versions'].get('wrpo', 'of an unknown version')}")
    imported = recipe.build.imported.tables().get(table)
    if imported:
        lines.append(
            f"- imported from {code(data_identity(imported.path))}, split {name(imported.split)}"
        )
        return "\n".join(lines)
    datasets = recipe.prompts.datasets.items()
    lines += [f"- prompts {code(own)}: {code(data_identity(data.path))}" for own, data in datasets]
    for own, reward in recipe.rewards.items():
        found = [model_identity(one.model, one.revision) for one in reward.networks()]
        of = "".join(f" {code(model)}" for model in found)
        lines.append(f"- reward {code(own)}: {reward.type}{of}, weight {reward.weight:g}")
    return "\n".join(lines)


def _responses(recipe: Recipe, table: str, rows: list[Row]) -> str:
    names = ROW_RESPONSES.get(table, ("completion",))
    lines = ["| response | source | model | rows | mean score |", "|---|---|---|---|---|"]
    for response in names:
        prefix = "" if response == "completion" else f"{response}_"
        found = Counter(row[f"{prefix}source"] for row in rows)
        for source, count in sorted(found.items()):
            own = [row[f"{prefix}score"] for row in rows if row[f"{prefix}source"] == source]
            scores = [score for score in own if score is not None]
            mean = f"{sum(scores) / len(scores):.4f}" if scores else "-"
            shown = f"{cell(source)} | {_model(recipe, source)}"
            lines.append(f"| {response} | {shown} | {count} | {mean} |")
    return "\n".join(lines)


def _model(recipe: Recipe, source: str) -> str:
    datasets = dataset_responses(recipe.prompts).get(source)
    if datasets:
        return f"its responses come with {', '.join(map(code, datasets))}"
    if source in recipe.fusions:
        return f"fuses {', '.join(map(code, recipe.fusions[source].members))}"
    model = recipe.target if source == TARGET else recipe.sources.get(source)
    if model is None:
        return "-"
    after = " after SFT" if source == TARGET else ""
    return f"{code(model_identity(model.model, model.revision))}{after}"


def _licence(recipe: Recipe, licence: str | None) -> str:
    models = [Path(model.model).name for model in (*recipe.sources.values(), recipe.target)]
    lines = [
        f"Licence of this data set: {inline(licence) if licence else TO_FILL}",
        "",
        "Terms that may bind its use:",
    ]
    lines += [f"- prompts {code(own)}: {TO_FILL}" for own in recipe.prompts.datasets]
    lines += [f"- responses of {code(model)}: {TO_FILL}" for model in dict.fromkeys(models)]
    return "\n".join(lines)
