"""Suites of benchmarks: versioned YAML files in eval/suites/, or of the user's own.

A suite states what a number means: harness, task, shots, decoding, metric, judge, and how far it
is comparable with the papers. lm-eval's task files decide how a benchmark runs, and an evaluation
refuses where they say something else than the suite; judged benchmarks are decoded as it states.
"""

from __future__ import annotations

import difflib
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from wrpo.errors import RecipeError
from wrpo.files import is_file
from wrpo.ids import digest
from wrpo.recipe.evaluation import Eval
from wrpo.recipe.load import refusal
from wrpo.recipe.yaml_source import Located, read_yaml
from wrpo.settings import Section

EVAL = Path(__file__).parents[2] / "eval"
SUITES = EVAL / "suites"
OWN_TASKS = EVAL / "tasks"
"""Files of the package `eval`: they are data here, nothing of it is imported."""


class SuiteBenchmark(Section):
    """What every entry of a suite says, whoever runs it."""

    version: str = Field(description="Version of the harness that the entry was written for.")
    documents: int | None = Field(None, ge=1, description="Documents of the whole benchmark.")
    shots: int = Field(ge=0, description="Examples before each question.")
    template: str = Field(description="How a question becomes a prompt.")
    decoding: dict[str, Any] = Field(description="Generation settings; lm-eval's names there.")
    metric: str = Field(description="The number that counts; lm-eval's name there.")
    comparable: Literal["exact", "close", "no"] = Field(description="With the papers' numbers.")
    why: str = Field(description="One sentence: what is the same and what differs.")
    verified: str = Field("", description="What of this entry was tried, and what was not.")
    part_of: str | None = Field(None, description="The papers' benchmark that this is a part of.")


class LMEvalBenchmark(SuiteBenchmark):
    """A task or group of lm-eval, from its own files, eval/tasks or eval.include_path."""

    harness: Literal["lm-eval"]
    task: str = Field(description="Name of the task or group.")
    task_version: int | float | str | None = Field(
        None, description="metadata.version of the task."
    )
    filter: str = Field("none", description="The filter of `metric` that counts.")


class JudgeBenchmark(SuiteBenchmark):
    """A benchmark that a model judges."""

    harness: Literal["judge"]
    task: str = Field(description="Name of the benchmark in this toolkit.")
    judge: str = Field(description="The judge of the papers.")
    baseline: str | None = Field(None, description="Whose responses the judge compares with.")


class ExternalBenchmark(SuiteBenchmark):
    """A benchmark that this toolkit does not run."""

    harness: Literal["external"]
    judge: str | None = Field(None, description="The judge of the papers, where there is one.")
    url: str = Field(description="Where its code is.")
    run: str = Field(description="How to run it yourself.")


Entry = Annotated[
    LMEvalBenchmark | JudgeBenchmark | ExternalBenchmark, Field(discriminator="harness")
]


class Suite(Section):
    """One suite file."""

    suite: str = Field(description="Its name.")
    version: int = Field(ge=1, description="Raised with every change of what a number means.")
    about: str = Field(description="One sentence for the list of suites.")
    benchmarks: dict[str, Entry] = Field(min_length=1, description="By name, in order.")

    def lm_eval(self) -> dict[str, LMEvalBenchmark]:
        """The entries that lm-eval runs."""
        return {n: b for n, b in self.benchmarks.items() if isinstance(b, LMEvalBenchmark)}

    def judged(self) -> dict[str, JudgeBenchmark]:
        """The entries that a judge model scores."""
        return {n: b for n, b in self.benchmarks.items() if isinstance(b, JudgeBenchmark)}

    def not_by_lm_eval(self) -> dict[str, str]:
        """The other entries, with the reason."""
        reasons = {name: _reason(entry) for name, entry in self.benchmarks.items()}
        return {name: reason for name, reason in reasons.items() if reason is not None}


def _reason(entry: Entry) -> str | None:
    if isinstance(entry, JudgeBenchmark):
        return (
            f"needs a judge model (the papers have {entry.judge}); name one under eval.judged and "
            "run python -m eval.judge (docs/judges.md)"
        )
    if isinstance(entry, ExternalBenchmark):
        return f"run it yourself: {entry.run} ({entry.url})"
    return None


def shipped_suites() -> list[str]:
    """Names of the suites that come with the toolkit."""
    return sorted(path.stem for path in SUITES.glob("*.yaml"))


def suite_path(name: str) -> Path:
    """The file of a suite; a name with a slash or ending in .yaml is the path of an own file.

    Raises:
        RecipeError: no such suite.
    """
    path = Path(name) if "/" in name or name.endswith(".yaml") else SUITES / f"{name}.yaml"
    if not is_file(path):
        close = difflib.get_close_matches(name, shipped_suites(), n=1)
        hint = f'; did you mean "{close[0]}"?' if close else "."
        raise RecipeError(
            f'eval.suite: no suite "{name}"{hint} Known: {", ".join(shipped_suites())}, or the '
            "path of an own file"
        )
    return path


def load_suite(name: str) -> Suite:
    """The suite of that name.

    Raises:
        RecipeError: no such suite, or its file says something wrong.
    """
    path = suite_path(name)
    return _shipped(path) if path.parent == SUITES else _read(path)


@cache
def _shipped(path: Path) -> Suite:
    """Read once: a plan asks for the suites at each stage of evaluation."""
    return _read(path)


def _read(path: Path) -> Suite:
    located = read_yaml(path)
    try:
        return Suite.model_validate(located.value)
    except ValidationError as error:
        raise RecipeError(_explain(error, located)) from None


def suites_of(settings: Eval) -> list[Suite]:
    """The suites that a recipe names."""
    return [load_suite(name) for name in settings.suites]


def evaluated_tasks(settings: Eval) -> list[str]:
    """lm-eval's tasks and groups of a recipe: those of its suites, then `eval.tasks`."""
    names = [b.task for suite in suites_of(settings) for b in suite.lm_eval().values()]
    return list(dict.fromkeys([*names, *settings.tasks]))


def judged_decoding(settings: Eval, benchmark: str) -> dict[str, Any]:
    """Every decoding field of a judged benchmark, with the recipe's own changes.

    The first suite of the recipe that has the benchmark states them, else suite wrpo, else the
    benchmark itself. A temperature that is a text, `by category`, is None.
    """
    suites = [*suites_of(settings), load_suite("wrpo")]
    entries = (suite.judged().get(benchmark) for suite in suites)
    entry = next(filter(None, entries), None)
    judged = settings.judged[benchmark]
    stated = decoding_fields(entry) if entry else judged.decoding_stated
    return {**stated, **judged.decoding.model_dump(exclude_none=True)}


def decoding_fields(entry: JudgeBenchmark) -> dict[str, Any]:
    """What an entry states, with a temperature by category as None."""
    temperature = entry.decoding.get("temperature")
    return {**entry.decoding, "temperature": None if isinstance(temperature, str) else temperature}


def suite_identity(settings: Eval) -> dict[str, str]:
    """Suite name to a digest of what its lm-eval entries state, comments and prose left out."""
    prose = {"why", "verified", "comparable", "part_of"}
    return {
        suite.suite: digest(
            {
                name: entry.model_dump(mode="json", exclude=prose)
                for name, entry in suite.lm_eval().items()
            }
        )
        for suite in suites_of(settings)
    }


def own_tasks(names: list[str]) -> list[str]:
    """Those of the names that are task files of this toolkit; a file is called like its task."""
    return _with_file(names, OWN_TASKS)


def code_tasks(names: list[str]) -> list[str]:
    """Those of the names that run programs in the sandbox."""
    return _with_file(names, OWN_TASKS / "code")


def _with_file(names: list[str], folder: Path) -> list[str]:
    files = {path.stem for path in folder.rglob("*.yaml")}
    return [name for name in names if name in files]


def _explain(error: ValidationError, located: Located) -> str:
    lines = []
    for item in error.errors():
        path = tuple(str(step) for step in item["loc"])
        shown = ".".join(step for step in path if step not in ("lm-eval", "judge", "external"))
        lines.append(f"{located.place(path)}: {shown or 'suite'}: {refusal(item)}")
    return "\n".join(dict.fromkeys(lines))
