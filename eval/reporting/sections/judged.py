"""Judged benchmarks: numbers with the judge they are of."""

from __future__ import annotations

import json
from typing import Any

from eval.reporting.judged_table import JudgedTable
from eval.reporting.page import Block, Code, Details, Heading, PageTable, Paragraph, number
from eval.reporting.sections.common import fused_row, interval, model_label
from wrpo.recipe import Recipe

_NOTE = (
    "Numbers of one judge, with one judge prompt, against one baseline; another judge's numbers "
    "would be in another table. Intervals are those of the benchmark's protocol. Not readable: "
    "verdicts that count for nothing; a model with many of them is not comparable with one that "
    "has few. First preferred: of the verdicts that prefer one response, the share that prefers "
    "the one shown first; 50% is fair. Flipped: of the questions judged in both orders, the share "
    "whose winner changes with the order."
)


def judged(recipe: Recipe, table: JudgedTable) -> list[Block]:
    """One benchmark by one judge."""
    metrics = table.metrics()
    models = list(table.results)
    rows = [
        [
            model_label(recipe, model),
            *(
                interval(found[model], digits=2) if model in found else "–"
                for found in metrics.values()
            ),
            *_quality(table.results[model], table.benchmark),
        ]
        for model in models
    ]
    header = [
        "model",
        *metrics,
        "questions",
        "not readable",
        "refused",
        "first preferred",
        "flipped",
        "cut responses",
    ]
    first = table.results[models[0]]
    return [
        Heading(f"Judged: {table.benchmark}"),
        Paragraph(_judge(table, first)),
        PageTable(header, rows, strong=fused_row(models)),
        Paragraph(_NOTE, "note"),
        _costs(recipe, table),
        Details("The judge, its prompt and the protocol", [Code(_identity(first), "json")]),
    ]


def _judge(table: JudgedTable, results: dict[str, Any]) -> str:
    baseline = f", against the responses of {results['baseline']}" if results["baseline"] else ""
    prompt = results["judge_prompt"]
    return (
        f"Judge **{table.judge_name}**{baseline}. Judge prompt: {prompt['source']} "
        f"({prompt['comparable']})."
    )


def _quality(results: dict[str, Any], benchmark: str) -> list[str]:
    position = results["position"] or {}
    return [
        str(results["tasks"][benchmark]["n"]),
        f"{results['parse_failures']} of {results['verdicts']}",
        str(results["refused"]),
        _share(position.get("first_share"), position.get("first_share_n")),
        _share(position.get("flipped"), position.get("flipped_n")),
        str(results["truncated_responses"]),
    ]


def _share(share: float | None, n: int | None) -> str:
    return "–" if share is None else f"{share:.0%} of {n}"


def cost(tables: list[JudgedTable]) -> str:
    """What all judges cost, as a sentence; empty without judges."""
    found = [results["cost"] for table in tables for results in table.results.values()]
    if not found:
        return ""
    asked = sum(one["judgements"] - one["cached"] for one in found)
    return f"Judges: {asked:,} judgements asked for, {_price(found)}."


def _price(costs: list[dict[str, Any]]) -> str:
    if any(one["dollars"] is None for one in costs):
        return "no price known"
    return f"${sum(one['dollars'] for one in costs):,.2f} in all"


def _costs(recipe: Recipe, table: JudgedTable) -> Details:
    rows = []
    for model, results in table.results.items():
        used = results["cost"]
        dollars = used["dollars"]
        rows.append(
            [
                model_label(recipe, model),
                str(used["judgements"]),
                str(used["cached"]),
                f"{used['tokens']['input']:,}",
                f"{used['tokens']['output']:,}",
                "–" if dollars is None else f"${number(dollars, digits=2)}",
            ]
        )
    header = ["model", "judgements", "of them cached", "input tokens", "output tokens", "price"]
    price = _price([results["cost"] for results in table.results.values()])
    return Details(f"What the judge cost: {price}", [PageTable(header, rows)])


def _identity(results: dict[str, Any]) -> str:
    shown = ("judge", "judge_prompt", "baseline", "protocol")
    facts = {name: results[name] for name in shown if name in results}
    return json.dumps(facts, indent=1, ensure_ascii=False)
