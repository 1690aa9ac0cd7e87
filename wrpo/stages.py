"""The pipeline as data: every stage of a recipe, its folder, its inputs, its key, its command.

`plan`, `status` and `run` read this list; each stage module asks it for its own entry. A stage's
key is made of the recipe fields that decide its result and of the keys of its inputs, so a change
anywhere upstream shows.
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from wrpo.data_identity import data_identity
from wrpo.errors import MissingInputError, RecipeError, StageError
from wrpo.ids import digest
from wrpo.judged_stages import judged_stages
from wrpo.judging import judge_identity
from wrpo.model_identity import model_identity, template_identity
from wrpo.recipe import TARGET, Recipe, preference
from wrpo.recipe.judge_questions import template_name
from wrpo.recipe.judge_reward_section import JudgeReward
from wrpo.recipe.prompt_sections import dataset_answers
from wrpo.recipe.reward_sections import ModelReward
from wrpo.recipe.suite import evaluated_tasks
from wrpo.sampling import (
    answered_domains,
    answering_sources,
    resolved_sampling,
    sampling_by_domain,
    sampling_model,
)
from wrpo.stage import Stage
from wrpo.stage_folder import StageFolder, key_differences, read_manifest
from wrpo.task_identity import task_settings

logger = logging.getLogger(__name__)

State = Literal["missing", "partial", "done", "stale"]

SPEED_FIELDS = {"engine"}
_LOSS_FIELDS = {"loss", "margin", "label_smoothing"}
UNUSED_FIELDS = {
    "wrpo": {"sft_on", "cgpo"},
    "dpo": {"sft_on", "cgpo", "alpha"},
    "cgpo": {"sft_on", "alpha", "fusion", *_LOSS_FIELDS},
    "sft": {"alpha", "beta", "likelihood", "reference", "fusion", "cgpo", *_LOSS_FIELDS},
}
_EVAL_FILES = {"include_path", "suite", "sandbox"}  # see task_identity.py
BUILD_TABLES = ("sft", "triples", "pairs")
_OPTIONAL_OF_DATASETS = (
    *("input", "domain_name", "answers", "filters", "max_prompts", "sft_share"),
)


_command_line: tuple[list[str], list[str]] = (["--recipe", "RECIPE"], [])


def remember_command_line(recipe: str, overrides: list[str]) -> None:
    """Lets the commands that messages name carry this recipe and these `key=value`."""
    global _command_line
    _command_line = (["--recipe", recipe], list(overrides))


class Pipeline:
    """The stages of one recipe in the order in which they run.

    Args:
        given: finished folders that another process has checked; they are not checked again, as the
            files that their keys are made of need not be on this machine.
    """

    def __init__(self, recipe: Recipe, *, given: Mapping[str, Path] | None = None) -> None:
        self.recipe = recipe
        self._given = given or {}
        self.stages: dict[str, Stage] = {stage.name: stage for stage in _stages(recipe)}

    def __getitem__(self, name: str) -> Stage:
        if name not in self.stages:
            known = ", ".join(self.stages)
            raise RecipeError(f"run {self.recipe.run} has no stage {name}; it has: {known}")
        return self.stages[name]

    def folder(self, name: str) -> Path:
        """Where the stage writes."""
        return self.recipe.runs / self.recipe.run / name

    def key(self, name: str) -> dict[str, Any]:
        """The readable key: own settings, and a digest of the key of each input."""
        stage = self[name]
        inputs = {input_: digest(self.key(input_)) for input_ in stage.inputs}
        return {**stage.settings, "inputs": inputs}

    def state(self, name: str) -> State:
        """missing, partial, done; stale: made with other settings."""
        manifest = read_manifest(self.folder(name))
        if manifest is None:
            return "done" if self._reused(name) else "missing"
        if key_differences(manifest["key"], _plain(self.key(name))):
            return "stale"
        return "done" if manifest["complete"] else "partial"

    def finished(self, name: str) -> Path:
        """The folder of a finished input, in this run or in the one it reuses.

        Raises:
            MissingInputError: it is not there or not complete; names the command that makes it.
            StageError: it was made with other settings than the recipe now says.
        """
        if name in self._given:
            return self._given[name]
        state = self.state(name)
        if state == "done":
            return self._reused(name) or self.folder(name)
        folder = self.folder(name)
        if state == "stale":
            manifest = read_manifest(folder) or {"key": {}}
            lines = key_differences(manifest["key"], _plain(self.key(name)))
            raise StageError(
                f"{folder} was made with other settings (there -> now):\n"
                + "\n".join(f"  {line}" for line in lines)
                + f"\nDelete it and make it again: {self.shell_command(name)}\nor keep it and give "
                "this run another name: run=NAME"
            )
        raise MissingInputError(
            f"needs {folder}, which is {'not finished' if state == 'partial' else 'not there'}; "
            f"make it with: {self.shell_command(name)}"
        )

    def begin(self, name: str, folder: StageFolder, *, parts: int | None = None) -> bool:
        """Claims the folder that a stage writes; False where it is done, here or in `reuse`.

        Args:
            folder: the stage's own, or one beside it for a trial, which is never reused.
            parts: see `StageFolder.open`.

        Raises:
            StageError: the folder was made with other settings.
        """
        whole = folder.path == self.folder(name)
        done = self._reused(name) if whole else None
        if done is None and folder.open(parts=parts):
            done = folder.path
        if done is not None:
            logger.info("%s: complete, nothing to do (%s)", name, done)
        return done is None

    def is_done(self, name: str) -> bool:
        """Whether the stage need not be made.

        Raises:
            StageError: it was made with other settings than the recipe now says.
        """
        if self.state(name) in ("missing", "partial"):
            return False
        self.finished(name)
        return True

    def shell_command(self, name: str) -> str:
        """The command line of a stage as one would type it, for the recipe and overrides in use."""
        recipe, overrides = _command_line
        return shlex.join(["python", "-m", *self.stages[name].command, *recipe, *overrides])

    def _reused(self, name: str) -> Path | None:
        if self.recipe.reuse is None or read_manifest(self.folder(name)) is not None:
            return None
        folder = self.recipe.runs / self.recipe.reuse / name
        manifest = read_manifest(folder)
        if manifest is None or not manifest["complete"]:
            return None
        return folder if manifest["key"] == _plain(self.key(name)) else None


def model_names(recipe: Recipe) -> list[str]:
    """Every model that evaluation compares: target, sources, SFT model, trained arms."""
    sources = list(recipe.sources) if recipe.eval.sources else []
    return [TARGET, *sources, "sft", "wrpo", *recipe.arms]


def training_table(recipe: Recipe, arm: str) -> str:
    """The stage whose rows an arm trains on."""
    return f"build/{preference(recipe, arm).data}"


def _plain(value: Any) -> Any:
    """The value as it comes back from JSON, so that keys compare equal to stored ones."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _stages(recipe: Recipe) -> list[Stage]:
    sources = answering_sources(recipe)
    source_scores = tuple(f"score/{name}" for name in sources)
    arms = ["wrpo", *recipe.arms]
    tables = list(dict.fromkeys(training_table(recipe, arm) for arm in arms))
    stages = [_prompts(recipe)]
    stages += [_sample(recipe, name) for name in sources]
    stages += [_score(recipe, name) for name in sources]
    stages += [_build(recipe, "sft", ("prompts", *source_scores)), _sft(recipe)]
    if "build/triples" in tables:
        stages += [_sample(recipe, TARGET), _score(recipe, TARGET)]
        inputs = ("prompts", *source_scores, f"score/{TARGET}")
        stages.append(_build(recipe, "triples", inputs))
    if "build/pairs" in tables:
        stages.append(_build(recipe, "pairs", ("prompts", *source_scores)))
    scored = dict.fromkeys(needed for arm in arms for needed in scored_rows(recipe, arm))
    stages += [_logprobs(recipe, model, rows) for model, rows in scored]
    stages += [_train(recipe, arm) for arm in arms]
    stages += judged_stages(recipe, model_names(recipe))
    if evaluated_tasks(recipe.eval):
        tasks = task_settings(recipe.eval)
        stages += [_eval(recipe, name, tasks) for name in model_names(recipe)]
    stages += _report(stages)
    unread = recipe.build.imported.tables().keys() - {"sft", *(t.split("/")[1] for t in tables)}
    if unread:
        raise RecipeError(f"build.imported: no arm trains on {', '.join(sorted(unread))}")
    return _needed(stages) if recipe.build.imported.tables() else stages


def _needed(stages: list[Stage]) -> list[Stage]:
    """Leaves out the prompts, answers and scores that no table is built from."""
    inputs = {stage.name: stage.inputs for stage in stages}
    waiting = [name for name in inputs if name.split("/")[0] not in ("prompts", "sample", "score")]
    needed: set[str] = set()
    while waiting:
        name = waiting.pop()
        needed.add(name)
        waiting += [input_ for input_ in inputs[name] if input_ not in needed]
    return [stage for stage in stages if stage.name in needed]


def _prompts(recipe: Recipe) -> Stage:
    unused = {"max_dropped_share", "expected_prompts"}
    settings = recipe.prompts.model_dump(mode="json", exclude=unused)
    # Steps that are off stay out, so that prompts made without them keep their key.
    settings = {key: value for key, value in settings.items() if value is not None}
    benchmarks = settings.get("decontaminate", {}).get("benchmarks", {})
    for dataset in settings["datasets"].values():
        del dataset["expected_prompts"]
        for key in [key for key in _OPTIONAL_OF_DATASETS if dataset[key] is None]:
            del dataset[key]
    for dataset in [*settings["datasets"].values(), *benchmarks.values()]:
        dataset["path"] = data_identity(dataset["path"])
    return Stage(
        "prompts", ("data_construction.prompts",), settings={"seed": recipe.seed, **settings}
    )


def _sample(recipe: Recipe, source: str) -> Stage:
    name, command = f"sample/{source}", ("data_construction.sample", "--source", source)
    given = dataset_answers(recipe.prompts).get(source)
    if given:  # which rows these are stands in the key of the prompts
        return Stage(name, command, ("prompts",), {"answers_of": sorted(given)})
    settings = {
        "seed": recipe.seed,
        "model": _sampled_model(recipe, source),
        "sampling": resolved_sampling(recipe, source),
    }
    # What is said of no domain stays out, so that answers sampled without it keep their key.
    by_domain, domains = sampling_by_domain(recipe, source), answered_domains(recipe, source)
    settings |= {"sampling_by_domain": by_domain} if by_domain else {}
    settings |= {"domains": sorted(domains)} if domains is not None else {}
    return Stage(name, command, ("prompts", "sft") if source == TARGET else ("prompts",), settings)


def _sampled_model(recipe: Recipe, source: str) -> dict[str, Any]:
    """What identifies a model that is sampled or scored; the target's weights are an input."""
    entry = sampling_model(recipe, source)
    model = entry.model_dump(mode="json", include={"dtype", "quantization", "fold_system"})
    model["chat_template"] = template_identity(entry.chat_template)
    if source != TARGET:
        model["model"] = model_identity(entry.model, entry.revision)
    if entry.adapter:
        model["adapter"] = model_identity(entry.adapter)
    return model


def _score(recipe: Recipe, source: str) -> Stage:
    rewards = {}
    inputs: dict[str, None] = {"prompts": None, f"sample/{source}": None}
    for name, reward in recipe.rewards.items():
        settings = reward.model_dump(mode="json", exclude=SPEED_FIELDS)
        if reward.domains is None:  # off: scores made before it keep their key
            del settings["domains"]
        if isinstance(reward, ModelReward):
            settings["model"] = model_identity(reward.model, reward.revision)
            settings["chat_template"] = template_identity(reward.chat_template)
        if isinstance(reward, JudgeReward):
            settings["judge"] = judge_identity(reward.judge, recipe.judges[reward.judge])
            settings["prompt"] = template_name("question", reward.template)
            if reward.opponent:
                inputs[f"sample/{reward.opponent}"] = None
        rewards[name] = settings
    command = ("data_construction.score", "--source", source)
    return Stage(f"score/{source}", command, tuple(inputs), {"rewards": rewards})


def _build(recipe: Recipe, table: str, inputs: tuple[str, ...]) -> Stage:
    command = ("data_construction.build", "--table", table)
    imported = recipe.build.imported.tables().get(table)
    if imported:
        settings = imported.model_dump(mode="json", exclude={"max_dropped_share"})
        settings["path"] = data_identity(imported.path)
        return Stage(f"build/{table}", command, settings={"imported": settings})
    rules: dict[str, dict[str, Any]] = {
        "sft": {},
        "triples": {"min_gap": recipe.build.min_gap},
        "pairs": recipe.build.pairs.model_dump(
            mode="json", exclude=None if recipe.build.pairs.quantiles else {"quantiles"}
        ),
    }
    settings = rules[table]
    # Rules that are off stay out, so that tables made without them keep their key.
    domains = {} if table == "triples" else recipe.build.domains
    if domains:
        own = {name: rule.model_dump(exclude_defaults=True) for name, rule in domains.items()}
        settings = {**settings, "domains": own}
    if any(rule.sft_needs_pair for rule in domains.values()):
        settings = {**rules["pairs"], **settings}
    return Stage(f"build/{table}", command, inputs, settings)


def _target_settings(recipe: Recipe) -> dict[str, Any]:
    return {
        "model": model_identity(recipe.target.model, recipe.target.revision),
        "chat_template": template_identity(recipe.target.chat_template),
        "fold_system": recipe.target.fold_system,
    }


def _sft(recipe: Recipe) -> Stage:
    settings = recipe.sft.model_dump(mode="json", exclude=SPEED_FIELDS)
    settings |= {"seed": recipe.seed, "target": _target_settings(recipe)}
    settings["train"] = {"max_length": recipe.truncation.max_length, **settings["train"]}
    return Stage("sft", ("wrpo.train_sft",), ("build/sft",), settings)


def scored_rows(recipe: Recipe, arm: str) -> list[tuple[str, str]]:
    """(model, rows) of every table of log-probs that an arm reads, the initial policy's first.

    The model is "sft" or a source; rows are triples, pairs, or anchors: prompts of triples with
    answers to other prompts.
    """
    settings = preference(recipe, arm)
    if settings.objective == "sft" or settings.reference in ("model", "none"):
        return []
    needed: list[tuple[str, str]] = [("sft", settings.data)]
    if settings.objective == "cgpo":
        needed.append(("sft", "anchors"))
    if settings.objective == "cgpo" or settings.reference == "fused":
        needed += [(source, settings.data) for source in recipe.sources]
        for source, datasets in dataset_answers(recipe.prompts).items():
            raise RecipeError(
                f"{arm} needs the log-probs of every source, and {source} has no model: its "
                f"answers come with the dataset {', '.join(datasets)}. Take `answers` out of it, "
                "or train with an objective and a reference that read no log-probs of sources"
            )
    return needed


def _logprobs(recipe: Recipe, model: str, rows: str) -> Stage:
    settings = recipe.logprobs.model_dump(mode="json", exclude=SPEED_FIELDS)
    settings["truncation"] = recipe.truncation.model_dump(mode="json")
    table = "triples" if rows == "anchors" else rows
    inputs: tuple[str, ...] = (f"build/{table}",)
    if model == "sft":
        inputs = (*inputs, "sft")
    else:
        settings["model"] = _sampled_model(recipe, model)
    if recipe.logprobs.method == "sampled" and (model != "sft" or table == "triples"):
        inputs = (*inputs, f"sample/{TARGET if model == 'sft' else model}")
    command = ("data_construction.logprobs", "--model", model, "--rows", rows)
    return Stage(f"logprobs/{model}/{rows}", command, inputs, settings)


def _train(recipe: Recipe, arm: str) -> Stage:
    settings = preference(recipe, arm)
    unused = SPEED_FIELDS | UNUSED_FIELDS[settings.objective]
    cut = {"max_length"} if settings.objective == "sft" else None
    table = training_table(recipe, arm)
    inputs: tuple[str, ...] = (table, "sft")
    inputs += tuple(f"logprobs/{model}/{rows}" for model, rows in scored_rows(recipe, arm))
    return Stage(
        arm,
        ("wrpo.train", "--arm", arm),
        inputs,
        {
            "seed": recipe.seed,
            "truncation": recipe.truncation.model_dump(mode="json", include=cut),
            **settings.model_dump(mode="json", exclude=unused),
        },
    )


def _eval(recipe: Recipe, name: str, tasks: dict[str, Any]) -> Stage:
    settings = recipe.eval.model_dump(
        mode="json",
        exclude={"engine", "metrics", "group_by", "sources", "judged", *_EVAL_FILES},
    )
    inputs: tuple[str, ...] = ()
    if name in (TARGET, *recipe.sources):
        entry = sampling_model(recipe, name)
        settings["model"] = model_identity(entry.model, entry.revision)
        settings["chat_template"] = template_identity(entry.chat_template)
    else:
        inputs = (name,)
    return Stage(f"eval/{name}", ("eval.run", "--model", name), inputs, settings | tasks)


def _report(stages: list[Stage]) -> list[Stage]:
    """The report of all evaluations; none where the recipe evaluates nothing."""
    inputs = tuple(stage.name for stage in stages if stage.name.startswith(("eval/", "judge/")))
    return [Stage("report", ("eval.report",), inputs)] if inputs else []
