"""What each model cost, and which models had other budgets than the fused one."""

from __future__ import annotations

from collections.abc import Sequence

from eval.reporting.account import Accounts
from eval.reporting.compare import FUSED, display_name
from eval.reporting.page import Block, Heading, PageTable, Paragraph

_NOTE = (
    "Each line counts the model's own stage and every stage above it, so that tokens which models "
    "share count for each. Source tokens: responses of sources. Teacher tokens: forwarded by "
    "sources over responses that were there. Target: responses that it gave, before or while "
    "training. Trained: through the policy, prompts included, without padding. Reward: through "
    "reward models while training. Seconds and the largest memory are those of training stages; "
    "scoring before it and judges are in none."
)


def account(accounts: Accounts) -> list[Block]:
    """A table with a line per trained model."""
    if not accounts.costs:
        return []
    recipe = accounts.evidence.recipe
    rows = [
        [
            display_name(recipe, name),
            f"{cost.source_tokens:,}",
            f"{cost.teacher_tokens:,}",
            f"{cost.sampled_tokens:,}",
            f"{'≥ ' if cost.at_least else ''}{cost.trained_tokens:,}",
            f"{cost.reward_tokens:,}",
            f"{cost.steps:,}",
            f"{cost.seconds:,.0f}",
            "–" if cost.peak_memory_mib is None else f"{cost.peak_memory_mib:,}",
        ]
        for name, cost in accounts.costs.items()
    ]
    tokens = [f"{kind} tokens" for kind in ("source", "teacher", "target", "trained", "reward")]
    return [
        Heading("Account"),
        PageTable(["model", *tokens, "steps", "seconds", "memory, MiB"], rows),
        Paragraph(_NOTE, "note"),
    ]


def budget_note(runs: Sequence[Accounts]) -> list[Block]:
    """Says which models the verdict compares in spite of other budgets; nothing where none is.

    Args:
        runs: those that the verdict is on, of one recipe.
    """
    others: dict[str, list[str]] = {}
    for accounts in runs:
        for name, differs in accounts.other_budgets(FUSED).items():
            others[name] = list(dict.fromkeys([*others.get(name, []), *differs]))
    if not others:
        return []
    recipe = runs[0].evidence.recipe
    listed = "; ".join(
        f"{display_name(recipe, name)} ({', '.join(differs)})" for name, differs in others.items()
    )
    return [
        Paragraph(
            f"**Other budgets.** These models had another budget than "
            f"{display_name(recipe, FUSED)}, by more than a tenth, so that a difference may be "
            f"that of the budgets: {listed}."
        )
    ]


def same_budgets(accounts: Accounts) -> list[Block]:
    """Below a table that ranks all models: which of them had the same budget."""
    if len(accounts.budgets) < 2:
        return []
    recipe = accounts.evidence.recipe
    groups = [", ".join(display_name(recipe, name) for name in group) for group in accounts.budgets]
    text = "; ".join(f"({number}) {group}" for number, group in enumerate(groups, start=1))
    return [
        Paragraph(
            "Trained models by budget (the account has the numbers), alike within a tenth: "
            f"{text}. A win over a model of another group may be that of the budget.",
            "note",
        )
    ]
