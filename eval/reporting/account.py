"""What each model of a run cost: everything that its stage, and all stages above it, took."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pyarrow.compute as pc

from eval.reporting.evidence import Evidence
from wrpo.pipeline.folder import read_manifest
from wrpo.pipeline.tables import LOGPROBS, RESPONSES, TEACHER_LOGITS, parts, read_column
from wrpo.recipe import TARGET

_CLOSE = 1.1
"""Budgets within this factor are the same."""


@dataclass(frozen=True)
class ModelCost:
    """Of one model. Tokens of what the run reuses from another one count too.

    Attributes:
        source_tokens: of responses that sources gave.
        teacher_tokens: that sources and teachers forwarded over responses that were there.
        sampled_tokens: of responses that the target gave, before or while training.
        trained_tokens: through the policy while training, prompts included.
        reward_tokens: that reward models forwarded while training. Scoring before it is in none,
            as all models have it alike.
        steps: optimizer steps.
        seconds: of training stages.
        peak_memory_mib: of the training stage that took most.
        at_least: a stage was resumed and counted from there.
    """

    source_tokens: int = 0
    teacher_tokens: int = 0
    sampled_tokens: int = 0
    trained_tokens: int = 0
    reward_tokens: int = 0
    steps: int = 0
    seconds: float = 0.0
    peak_memory_mib: int | None = None
    at_least: bool = False

    @property
    def budget(self) -> dict[str, int]:
        """What two models must have alike to be compared."""
        return {
            "source tokens": self.source_tokens,
            "teacher tokens": self.teacher_tokens,
            "tokens of the target": self.sampled_tokens,
            "trained tokens": self.trained_tokens,
            "reward tokens": self.reward_tokens,
            "steps": self.steps,
        }


@dataclass
class Accounts:
    """The costs of the trained models of a run, in pipeline order."""

    evidence: Evidence
    _tokens: dict[str, int] = field(default_factory=dict)

    @cached_property
    def costs(self) -> dict[str, ModelCost]:
        """By model; only finished ones."""
        recipe = self.evidence.recipe
        names = ["sft", *recipe.fused_models, *recipe.arms, *recipe.merges]
        return {name: self._cost(name) for name in names if name in self.evidence.folders}

    def other_budgets(self, name: str) -> dict[str, list[str]]:
        """The models whose budget is another than that of the named one, and in what it differs."""
        if name not in self.costs:
            return {}
        found = {
            other: self._differs(name, other) for other in self.costs if other not in (name, "sft")
        }
        return {other: differs for other, differs in found.items() if differs}

    @cached_property
    def budgets(self) -> list[list[str]]:
        """The trained models by budget; those of a list have that of its first, within a tenth."""
        groups: list[list[str]] = []
        for name in self.costs:
            same = next((group for group in groups if not self._differs(name, group[0])), None)
            if same is None:
                groups.append([name])
            else:
                same.append(name)
        return groups

    def _differs(self, one: str, other: str) -> list[str]:
        """What of two models' budgets is not alike."""
        own = self.costs[one].budget
        budget = self.costs[other].budget
        return [what for what, amount in budget.items() if not _close(amount, own[what])]

    def _cost(self, model: str) -> ModelCost:
        totals = dict.fromkeys(_TOTALS, 0)
        seconds, memory, at_least = 0.0, 0, False
        for name in self._behind(model):
            folder = self.evidence.folders.get(name)
            if folder is None:
                continue
            stage, facts = self.evidence.pipeline[name], read_manifest(folder) or {}
            if stage.kind == "sample":
                own = stage.args["source"] == TARGET
                total = "sampled_tokens" if own else "source_tokens"
                totals[total] += self._sum(name, "token_count", RESPONSES)
            elif stage.kind == "logprobs" and stage.args["model"] != "sft":
                totals["teacher_tokens"] += self._sum(name, "length", LOGPROBS)
            elif stage.kind == "teacher_logits" and stage.args["model"] != "sft":
                totals["teacher_tokens"] += self._sum(name, "forwarded", TEACHER_LOGITS)
            elif stage.kind in ("sft", "train", "merge"):
                for total in _TOTALS:
                    totals[total] += int(facts.get(total, 0))
                seconds += float(facts.get("seconds", 0.0))
                memory = max(memory, int(facts.get("peak_memory_mib", 0)))
                at_least = at_least or "counted_from_step" in facts
        return ModelCost(
            **totals, seconds=seconds, peak_memory_mib=memory or None, at_least=at_least
        )

    def _behind(self, name: str) -> list[str]:
        """The stage and all above it, each once."""
        found: dict[str, None] = {}
        waiting = [name]
        while waiting:
            one = waiting.pop()
            if one not in found:
                found[one] = None
                waiting += self.evidence.pipeline[one].inputs
        return list(found)

    def _sum(self, name: str, column: str, schema: Any) -> int:
        if name not in self._tokens:
            files = parts(self.evidence.folders[name])
            sums = [pc.sum(read_column(path, column, schema)).as_py() or 0 for path in files]
            self._tokens[name] = int(sum(sums))
        return self._tokens[name]


_TOTALS = (
    "source_tokens",
    "teacher_tokens",
    "sampled_tokens",
    "trained_tokens",
    "reward_tokens",
    "steps",
)
"""Numbers that are added up; training stages keep theirs in their manifests by these names."""


def _close(one: int, other: int) -> bool:
    return max(one, other) <= _CLOSE * min(one, other)
