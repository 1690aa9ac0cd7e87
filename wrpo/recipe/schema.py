"""The recipe: one typed schema in pipeline order.

Unknown keys are refused. Fields under `engine:` only decide how fast a stage runs; all others
decide its result and are part of the stage's key.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, PrivateAttr, field_validator, model_validator

from wrpo.errors import RecipeError
from wrpo.judging.settings import JudgeModel
from wrpo.merging.base import MergeSettings
from wrpo.recipe.build import Build, Score
from wrpo.recipe.consistency import Consistency
from wrpo.recipe.evaluation import Eval
from wrpo.recipe.executor import Executor, LocalExecutor
from wrpo.recipe.fusions import ModelFusion
from wrpo.recipe.names import LONGEST_NAME, NAME, refuse_names
from wrpo.recipe.prompts import Prompts, dataset_responses, explored_datasets, prompt_domains
from wrpo.recipe.prune import Prune
from wrpo.recipe.revise import REVISED, Revision
from wrpo.recipe.sampling import Model, Sample, Source
from wrpo.recipe.training import (
    OBJECTIVES,
    SFT,
    LogProbs,
    Preference,
    TeacherLogits,
    Truncation,
)
from wrpo.rewards.base import RewardSettings
from wrpo.settings import Section, any_of, kinds_in

if TYPE_CHECKING:
    Reward = RewardSettings
    Merge = MergeSettings
else:
    Reward = any_of(kinds_in("wrpo.rewards", RewardSettings))
    Merge = any_of(kinds_in("wrpo.merging", MergeSettings, tag="method"), tag="method")

TARGET = "target"
"""The name under which the SFT model is sampled and scored, like one more source."""

_RESERVED = {TARGET, "sft", "wrpo", "all"}
_ROUND = re.compile(r"(wrpo-)?round-\d+")
_OF_LATER_ROUNDS = (
    *("alpha", "beta", "engine", "global_batch_size", "label_smoothing", "likelihood"),
    *("margin", "train"),
)
"""What changes neither the rows nor the log-probs of a round."""
_FOLDERS = {
    *("prompts", "sample", "score", "build", "logprobs", "responses", "judge", "eval", "report"),
    *("logs", "teacher_logits", "consistency", "prune", "explore"),
}
"""What a run directory holds beside the folders of its arms."""


@dataclass(frozen=True)
class Origin:
    """What a command line says of a recipe: its file and `key=value`, as they were typed.

    It is no part of what the recipe says, so recipes of different origins can be equal.
    """

    path: str = field(default="RECIPE", compare=False)
    overrides: tuple[str, ...] = field(default=(), compare=False)


class Recipe(Section):
    """One run, from prompts to report."""

    _origin: Origin = PrivateAttr(default_factory=Origin)
    _round: int = PrivateAttr(1)

    run: str = Field(pattern=NAME, max_length=LONGEST_NAME, description="Name of the run.")
    runs: Path = Field(Path("runs"), description="Folder that holds the run directories.")
    reuse: str | None = Field(
        None,
        pattern=NAME,
        max_length=LONGEST_NAME,
        description="Another run whose finished stages serve where their keys are equal.",
    )
    executor: Executor = Field(
        default_factory=LocalExecutor, description="Where sampling and scoring run; speed only."
    )
    seed: int = Field(42, ge=0, description="Seed of splits, sampling and training.")
    sources: dict[str, Source] = Field(min_length=1, description="The teachers, by name.")
    fusions: dict[str, ModelFusion] = Field(
        default_factory=dict,
        description="Further sources: several of `sources` that answer together, by name.",
    )
    target: Model = Field(description="The model that learns.")
    prompts: Prompts
    sample: Sample = Field(default_factory=Sample)
    rewards: dict[str, Reward] = Field(min_length=1, description="Score = weighted sum of these.")
    judges: dict[str, JudgeModel] = Field(
        default_factory=dict, description="Models that judge responses, by name."
    )
    score: Score = Field(default_factory=Score)
    revise: dict[str, Revision] = Field(
        default_factory=dict,
        description="Sources, or target, whose weak responses are revised, by name; the revised "
        "responses are those of a source revised/NAME.",
    )
    build: Build = Field(default_factory=Build)
    consistency: Consistency | None = Field(
        None, description="An exam of the target on the facts of the SFT rows; unset: none."
    )
    prune: Prune | None = Field(
        None, description="The target made smaller before SFT, which starts from it; unset: not."
    )
    sft: SFT = Field(default_factory=SFT)
    truncation: Truncation = Field(default_factory=Truncation)
    logprobs: LogProbs = Field(default_factory=LogProbs)
    teacher_logits: TeacherLogits = Field(default_factory=TeacherLogits)
    wrpo: Preference = Field(
        default_factory=lambda: OBJECTIVES["wrpo"](), description="The preference stage."
    )
    rounds: int = Field(
        1,
        ge=1,
        le=99,
        description="How often the target is sampled and scored anew and `wrpo` trained on: each "
        "round starts from the model of the one before, its reference.",
    )
    later_rounds: dict[str, Any] = Field(
        default_factory=dict,
        description="What `wrpo` has differently from the second round on, e.g. `{train: "
        "{max_steps: 40}}`: later rounds find fewer rows, since the target has learnt.",
    )
    arms: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="Further trained models: what differs from `wrpo`."
    )
    merges: dict[str, Merge] = Field(
        default_factory=dict, description="Further models: trained ones merged, by name."
    )
    eval: Eval = Field(default_factory=Eval)

    def read_from(self, path: Path, overrides: Iterable[str] = ()) -> Recipe:
        """The same recipe, which knows the command line that names it."""
        recipe = self.model_copy()
        recipe._origin = Origin(str(path), tuple(overrides))
        return recipe

    @property
    def fused_models(self) -> list[str]:
        """The model of each round, the first one's `wrpo`."""
        later = [f"wrpo-round-{number}" for number in range(2, self.rounds + 1)]
        return ["wrpo", *later]

    @property
    def round(self) -> int:
        """The round whose stages a command works on."""
        return self._round

    def in_round(self, number: int) -> Recipe:
        """The same recipe for the commands of one round.

        Raises:
            RecipeError: the run has fewer.
        """
        if not 1 <= number <= self.rounds:
            raise RecipeError(
                f"no round {number} in recipe {self.run}: rounds is {self.rounds}; set rounds in "
                "the recipe"
            )
        recipe = self.model_copy()
        recipe._round = number
        return recipe

    @property
    def command_line(self) -> tuple[str, ...]:
        """What the commands of this recipe end with: `--recipe` and `key=value`."""
        return ("--recipe", self._origin.path, *self._origin.overrides)

    @field_validator("sources", "fusions", "arms", "judges", "rewards", "merges")
    @classmethod
    def _names(cls, named: dict[str, Any]) -> dict[str, Any]:
        refuse_names(named)
        return named

    @field_validator("sources", "fusions", "arms", "judges", "merges")
    @classmethod
    def _not_reserved(cls, named: dict[str, Any]) -> dict[str, Any]:
        for name in named:
            if name.casefold() in _RESERVED or _ROUND.fullmatch(name.casefold()):
                raise ValueError(f'"{name}" is a name of the pipeline itself; choose another')
        return named

    @field_validator("arms", "merges")
    @classmethod
    def _folders_of_arms(cls, arms: dict[str, Any]) -> dict[str, Any]:
        for name in sorted(arms):
            if name.casefold() in _FOLDERS:
                raise ValueError(f'"{name}" is another folder of the run directory; choose another')
        return arms

    @field_validator("later_rounds")
    @classmethod
    def _same_rows(cls, changes: dict[str, Any]) -> dict[str, Any]:
        for name in changes:
            if name not in _OF_LATER_ROUNDS:
                known = ", ".join(_OF_LATER_ROUNDS)
                raise ValueError(f"{name} is the same in all rounds; what may differ: {known}")
        return changes

    @model_validator(mode="after")
    def _distinct_names(self) -> Recipe:
        given = dataset_responses(self.prompts)
        refuse_names(given)
        self._not_reserved(dict.fromkeys(given))
        for what, taken, names in (
            ("both a source and an arm", self.sources, self.arms),
            ("two sources", self.sources, given),
            ("both a source and a merge", self.sources, self.merges),
            ("both a source and a fusion", {**self.sources, **given}, self.fusions),
            ("both a fusion and an arm", self.fusions, self.arms),
            ("both a fusion and a merge", self.fusions, self.merges),
            ("both an arm and a merge", self.arms, self.merges),
        ):
            both = sorted(set(taken) & set(names))
            if both:
                raise ValueError(f"{both} name {what}; rename one")
            refuse_names(names, taken=taken)
        return self

    @model_validator(mode="after")
    def _fused_models_are_sources(self) -> Recipe:
        for name, fusion in self.fusions.items():
            for member in fusion.members:
                if member not in self.sources:
                    known = ", ".join(self.sources)
                    raise ValueError(
                        f'fusions.{name}.members: no source "{member}"; sources: {known}'
                    )
                if self.sources[member].engine.backend == "openai":
                    raise ValueError(
                        f"fusions.{name}.members: {member} is on a server, and a fusion loads its "
                        "members to read what the others write; leave it out"
                    )
        return self

    @model_validator(mode="after")
    def _revised_and_revisers_exist(self) -> Recipe:
        drafts = [*self.sources, *self.fusions, *dataset_responses(self.prompts), TARGET]
        for name, revision in self.revise.items():
            if name not in drafts:
                raise ValueError(f'revise.{name}: no source "{name}"; known: {", ".join(drafts)}')
            if revision.by in self.sources:
                continue
            arm = self.arms.get(revision.by)
            if arm is None or arm.get("data") != "revisions":
                raise ValueError(
                    f'revise.{name}.by: no source "{revision.by}", and no arm that trains on '
                    "revisions (arms: {reviser: {objective: sft, data: revisions}}); sources: "
                    + ", ".join(self.sources)
                )
        taught = {name: one for name, one in self.revise.items() if one.by in self.arms}
        if len({one.template for one in taught.values()}) > 1:
            raise ValueError(
                f"revise: {', '.join(taught)} ask revisers that are arms different questions "
                "(prompt), and the table revisions teaches one; give them the same"
            )
        return self

    @model_validator(mode="after")
    def _merged_models_are_trained(self) -> Recipe:
        trained = ["sft", *self.fused_models, *self.arms]
        for name, settings in self.merges.items():
            for model in settings.inputs:
                if model not in trained:
                    raise ValueError(
                        f'merges.{name}: no trained model "{model}"; models: {", ".join(trained)}'
                    )
        return self

    @model_validator(mode="after")
    def _target_has_no_adapter(self) -> Recipe:
        if self.target.adapter:
            raise ValueError(
                f"target.adapter is {self.target.adapter}, but training starts from the weights of "
                "target.model; merge the adapter into them (peft: merge_and_unload) and name the "
                "merged folder"
            )
        return self

    @model_validator(mode="after")
    def _adapters_leave_removed_blocks_alone(self) -> Recipe:
        if self.prune is None or self.prune.blocks == "layers":
            return self
        arms = {f"arms.{name}": arm.get("lora") for name, arm in self.arms.items()}
        for place, lora in {"sft": self.sft.lora, "wrpo": self.wrpo.lora, **arms}.items():
            if lora is not None:
                raise ValueError(
                    f"{place}.lora would train blocks that prune removes, whose weights are in the "
                    "file as zeros; set prune.blocks to layers, or leave lora out"
                )
        return self

    @model_validator(mode="after")
    def _those_who_are_asked_are_judges(self) -> Recipe:
        asked = {} if self.consistency is None else {"consistency": self.consistency.judge}
        for name, explore in explored_datasets(self.prompts).items():
            asked[f"prompts.datasets.{name}.explore"] = explore.judge
        for place, judge in asked.items():
            if judge not in self.judges:
                known = ", ".join(self.judges) or "none"
                raise ValueError(f'{place}.judge: no judge "{judge}"; judges: {known}')
        return self

    @model_validator(mode="after")
    def _benchmarks_have_judges(self) -> Recipe:
        for name, judged in self.eval.judged.items():
            if judged.judge not in self.judges:
                known = ", ".join(self.judges) or "none"
                raise ValueError(f'eval.judged.{name}: no judge "{judged.judge}"; judges: {known}')
        return self

    @model_validator(mode="after")
    def _domains_exist(self) -> Recipe:
        known = prompt_domains(self.prompts)
        for place, domains in self._named_domains().items():
            unknown = sorted(set(domains) - known) if known is not None else []
            if unknown:
                raise ValueError(
                    f"{place}: no dataset of `prompts` has the domain {', '.join(unknown)}; "
                    f"domains: {', '.join(sorted(known or ()))}"
                )
        return self

    def _named_domains(self) -> dict[str, Iterable[str]]:
        """All domains that the recipe speaks of, by place."""
        rewards, sources = self.rewards.items(), self.sources.items()
        return {
            "sample.domains": self.sample.domains,
            "build.domains": self.build.domains,
            **{f"sources.{name}.domains": source.domains or () for name, source in sources},
            **{f"fusions.{name}.domains": one.domains or () for name, one in self.fusions.items()},
            **{f"rewards.{name}.domains": reward.domains or () for name, reward in rewards},
        }

    @model_validator(mode="after")
    def _verifiers_are_rewards(self) -> Recipe:
        for domain, rules in self.build.domains.items():
            place = f"build.domains.{domain}.verifier"
            if rules.verifier is not None and rules.verifier not in self.rewards:
                known = ", ".join(self.rewards)
                raise ValueError(f'{place}: no reward "{rules.verifier}"; rewards: {known}')
            if rules.verifier is not None and not self.rewards[rules.verifier].covers(domain):
                raise ValueError(
                    f"{place}: reward {rules.verifier} does not cover {domain}; add it to "
                    f"rewards.{rules.verifier}.domains"
                )
        return self

    @model_validator(mode="after")
    def _models_of_delta_exist(self) -> Recipe:
        known = [*self.sources, *self.fusions, *dataset_responses(self.prompts), TARGET]
        known += [f"{REVISED}{name}" for name in self.revise]
        for field_, name in (self.build.delta.model_dump() if self.build.delta else {}).items():
            if name not in known:
                raise ValueError(
                    f'build.delta.{field_}: no source "{name}"; known: {", ".join(known)}'
                )
        return self

    @model_validator(mode="after")
    def _rewards_fit(self) -> Recipe:
        for name, reward in self.rewards.items():
            reward.check_recipe(f"rewards.{name}", self)
        return self

    @model_validator(mode="after")
    def _imported_responses_were_not_sampled(self) -> Recipe:
        tables = self.build.imported.tables().keys() - {"sft"}
        if tables and self.logprobs.method == "sampled":
            raise ValueError(
                f"logprobs.method sampled needs responses of this run, and build/{min(tables)} is "
                "imported; set logprobs.method to trainer"
            )
        return self
