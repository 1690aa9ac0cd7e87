"""The pipeline as data: every stage of a recipe, its folder, its inputs, its key, its command.

`plan`, `status` and `run` read this list; each stage module asks it for its own entry. A stage's
key is made of the recipe fields that decide its result and of the keys of its inputs, so a change
anywhere upstream shows.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from wrpo.data_identity import data_identity
from wrpo.errors import MissingInputError, RecipeError, StageError
from wrpo.ids import digest
from wrpo.judged_stages import answer_settings, judge_settings
from wrpo.local_paths import is_file
from wrpo.model_identity import file_digest, model_identity
from wrpo.recipe import TARGET, Model, Recipe, preference
from wrpo.recipe.reward_sections import ModelReward
from wrpo.recipe.sampling_sections import Engine
from wrpo.stage_folder import key_differences, read_manifest

State = Literal["missing", "partial", "done", "stale"]

SPEED_FIELDS = {"engine"}
_LOSS_FIELDS = {"loss", "margin", "label_smoothing"}
UNUSED_FIELDS = {
    "wrpo": {"sft_on", "cgpo"},
    "dpo": {"sft_on", "cgpo", "alpha"},
    "cgpo": {"sft_on", "alpha", "fusion", *_LOSS_FIELDS},
    "sft": {"alpha", "beta", "likelihood", "reference", "fusion", "cgpo", *_LOSS_FIELDS},
}
BUILD_TABLES = ("sft", "triples", "pairs")


_command_line: tuple[list[str], list[str]] = (["--recipe", "RECIPE"], [])


def remember_command_line(recipe: str, overrides: list[str]) -> None:
    """Lets the commands that messages name carry this recipe and these `key=value`."""
    global _command_line
    _command_line = (["--recipe", recipe], list(overrides))


@dataclass(frozen=True)
class Stage:
    """One command of the pipeline.

    Attributes:
        name: e.g. "sample/qwen72b"; also the folder below the run directory.
        command: module and flags, without recipe and overrides.
        inputs: names of the stages it reads.
        settings: the recipe fields that decide its result.
    """

    name: str
    command: tuple[str, ...]
    inputs: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)


class Pipeline:
    """The stages of one recipe in the order in which they run."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
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


def sampling_model(recipe: Recipe, source: str) -> Model:
    """The recipe entry of a source, or of the target.

    Raises:
        RecipeError: no source of that name.
    """
    if source == TARGET:
        return recipe.target
    if source not in recipe.sources:
        known = ", ".join([*recipe.sources, TARGET])
        raise RecipeError(f'no source "{source}" in recipe {recipe.run}; known: {known}')
    return recipe.sources[source]


def _plain(value: Any) -> Any:
    """The value as it comes back from JSON, so that keys compare equal to stored ones."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _stages(recipe: Recipe) -> list[Stage]:
    sources = list(recipe.sources)
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
    stages += _judged(recipe)
    if recipe.eval.tasks:
        tasks = _task_identity(recipe.eval.include_path)
        stages += [_eval(recipe, name, tasks) for name in model_names(recipe)]
        stages.append(_report(recipe))
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
    settings = recipe.prompts.model_dump(mode="json", exclude={"max_dropped_share"})
    # Steps that are off stay out, so that prompts made without them keep their key.
    settings = {key: value for key, value in settings.items() if value is not None}
    benchmarks = settings.get("decontaminate", {}).get("benchmarks", {})
    for dataset in [*settings["datasets"].values(), *benchmarks.values()]:
        dataset["path"] = data_identity(dataset["path"])
    return Stage(
        "prompts", ("data_construction.prompts",), settings={"seed": recipe.seed, **settings}
    )


def resolved_sampling(recipe: Recipe, source: str) -> dict[str, Any]:
    """The sampling fields of one source after its own overrides."""
    base = recipe.sample.model_dump(mode="json", exclude={"target", "engine", "max_dropped_share"})
    over = sampling_model(recipe, source).sampling.model_dump(exclude_none=True)
    if source == TARGET:
        over = {**over, **recipe.sample.target.model_dump(exclude_none=True)}
    return {**base, **over}


def resolved_engine(recipe: Recipe, source: str) -> Engine:
    """The engine settings of one source after its own overrides."""
    over = sampling_model(recipe, source).engine.model_dump(exclude_none=True)
    return recipe.sample.engine.model_copy(update=over)


def _sample(recipe: Recipe, source: str) -> Stage:
    sampling = resolved_sampling(recipe, source)
    return Stage(
        f"sample/{source}",
        ("data_construction.sample", "--source", source),
        ("prompts", "sft") if source == TARGET else ("prompts",),
        {"seed": recipe.seed, "model": _sampled_model(recipe, source), "sampling": sampling},
    )


def _sampled_model(recipe: Recipe, source: str) -> dict[str, Any]:
    """What identifies a model that is sampled or scored; the target's weights are an input."""
    entry = sampling_model(recipe, source)
    model = entry.model_dump(mode="json", include={"dtype", "quantization", "fold_system"})
    model["chat_template"] = _template_identity(entry.chat_template)
    if source != TARGET:
        model["model"] = model_identity(entry.model, entry.revision)
    return model


def _score(recipe: Recipe, source: str) -> Stage:
    rewards = {}
    for name, reward in recipe.rewards.items():
        settings = reward.model_dump(mode="json", exclude=SPEED_FIELDS)
        if reward.domains is None:  # off: scores made before it keep their key
            del settings["domains"]
        if isinstance(reward, ModelReward):
            settings["model"] = model_identity(reward.model, reward.revision)
            settings["chat_template"] = _template_identity(reward.chat_template)
        rewards[name] = settings
    return Stage(
        f"score/{source}",
        ("data_construction.score", "--source", source),
        ("prompts", f"sample/{source}"),
        {"rewards": rewards},
    )


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
    if recipe.build.correctness and table != "triples":
        settings = {**settings, "correctness": recipe.build.correctness.model_dump(mode="json")}
    return Stage(f"build/{table}", command, inputs, settings)


def _target_settings(recipe: Recipe) -> dict[str, Any]:
    return {
        "model": model_identity(recipe.target.model, recipe.target.revision),
        "chat_template": _template_identity(recipe.target.chat_template),
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


def _eval(recipe: Recipe, name: str, tasks: dict[str, str] | None) -> Stage:
    settings = recipe.eval.model_dump(
        mode="json", exclude={"engine", "metrics", "group_by", "sources", "include_path", "judged"}
    )
    inputs: tuple[str, ...] = ()
    if name in (TARGET, *recipe.sources):
        entry = sampling_model(recipe, name)
        settings["model"] = model_identity(entry.model, entry.revision)
        settings["chat_template"] = _template_identity(entry.chat_template)
    else:
        inputs = (name,)
    if tasks is not None:
        settings["tasks_folder"] = tasks
    return Stage(f"eval/{name}", ("eval.run", "--model", name), inputs, settings)


def _judged(recipe: Recipe) -> list[Stage]:
    """The answers of every model to the judged benchmarks, then the verdicts on them."""
    benchmarks = list(recipe.eval.judged)
    names = model_names(recipe)
    stages = [_answers(recipe, benchmark, name) for benchmark in benchmarks for name in names]
    for benchmark in benchmarks:
        settings = judge_settings(recipe, benchmark)
        command = ("eval.judge", "--benchmark", benchmark, "--model")
        for name in names:
            inputs = (f"answers/{benchmark}/{name}",)
            stages.append(Stage(f"judge/{benchmark}/{name}", (*command, name), inputs, settings))
    return stages


def _answers(recipe: Recipe, benchmark: str, name: str) -> Stage:
    settings = answer_settings(recipe, benchmark)
    inputs: tuple[str, ...] = (name,)
    if name in (TARGET, *recipe.sources):
        entry = sampling_model(recipe, name)
        settings["model"] = model_identity(entry.model, entry.revision)
        settings["chat_template"] = _template_identity(entry.chat_template)
        inputs = ()
    command = ("eval.generate", "--benchmark", benchmark, "--model", name)
    return Stage(f"answers/{benchmark}/{name}", command, inputs, settings)


def _report(recipe: Recipe) -> Stage:
    inputs = tuple(f"eval/{name}" for name in model_names(recipe))
    inputs += tuple(
        f"judge/{benchmark}/{name}"
        for benchmark in recipe.eval.judged
        for name in model_names(recipe)
    )
    return Stage("report", ("eval.report",), inputs)


def _template_identity(path: Path | None) -> str | None:
    if path is None:
        return None
    return f"{path.name}#{file_digest(path)}" if is_file(path) else str(path)


def _task_identity(folder: Path | None) -> dict[str, str] | None:
    if folder is None:
        return None
    files = sorted(file for file in folder.rglob("*") if file.suffix in (".yaml", ".py", ".jsonl"))
    return {str(file.relative_to(folder)): file_digest(file) for file in files}
