"""Judge prompts: this toolkit's own, those of the installed alpaca-eval, or a published file.

Published prompts are their authors' texts and are not part of this toolkit; their files are read
in the form in which they are published.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from wrpo.benchmarks.files import read_records
from wrpo.errors import MissingInputError, RecipeError
from wrpo.ids import digest
from wrpo.recipe.evaluation import OWN, PUBLISHED, Judged, default_prompt

_PROMPTS = Path(__file__).with_name("prompts.yaml")
_PLACEHOLDER = re.compile(
    r"\{(instruction|output_[12]|question(?:_[12])?|answer(?:_[12])?|ref_answer_[12]"
    r"|QUESTION|ANSWER_[AB])\}"
)
_CHATML = re.compile(r"<\|im_start\|>(\w+)\n(.*?)\n?<\|im_end\|>", re.DOTALL)
_PUBLISHED_IN = {
    "arena_hard": "config/judge_config.yaml of github.com/lmarena/arena-hard-auto, release v0.1",
    "mt_bench": "fastchat/llm_judge/data/judge_prompts.jsonl of github.com/lm-sys/FastChat",
}
_MT_NAMES = {
    "single": "single-v1",
    "single_reference": "single-math-v1",
    "multi": "single-v1-multi-turn",
    "multi_reference": "single-math-v1-multi-turn",
}


@dataclass(frozen=True)
class Template:
    """A judge prompt with gaps.

    Attributes:
        name: where it is from, and a digest of its words.
        turns: (role, text) pairs.
    """

    name: str
    turns: tuple[tuple[str, str], ...]

    def fill(self, **values: str) -> list[dict[str, str]]:
        """The messages; every gap in one pass, so that answers cannot fill gaps.

        Raises:
            RecipeError: the template has a gap that this benchmark does not fill.
        """

        def value(gap: re.Match[str]) -> str:
            if gap[1] not in values:
                raise RecipeError(f"judge prompt {self.name}: nothing is known for {{{gap[1]}}}")
            return values[gap[1]]

        return [
            {"role": role, "content": _PLACEHOLDER.sub(value, text)} for role, text in self.turns
        ]


@dataclass(frozen=True)
class Templates:
    """The prompts of one benchmark, by their part in the protocol."""

    source: str
    parts: dict[str, Template]

    def __getitem__(self, part: str) -> Template:
        return self.parts[part]

    @property
    def comparable(self) -> bool:
        """Whether the words are the published ones."""
        return self.source != OWN

    def facts(self) -> dict[str, Any]:
        """For results.json."""
        said = (
            "as published"
            if self.comparable
            else "this toolkit's own words; scores are not comparable with the papers'"
        )
        names = {part: template.name for part, template in self.parts.items()}
        return {"source": self.source, "templates": names, "comparable": said}


def load_templates(name: str, judged: Judged) -> Templates:
    """The judge prompts that the recipe asks for.

    Raises:
        MissingInputError: the file, or the package alpaca-eval, is not there.
        RecipeError: the file is not a judge prompt of this benchmark.
    """
    which = default_prompt(name, judged)
    setting = f"eval.judged.{name}.prompt"
    if which == OWN:
        parts = {
            part: [("system", text["system"]), ("user", text["user"])]
            for part, text in yaml.safe_load(_PROMPTS.read_text("utf-8"))[name].items()
        }
        return _templates(name, OWN, parts)
    if which == PUBLISHED and name != "alpaca_eval_2":
        raise RecipeError(
            f"{setting}: the published prompt is not shipped; get {_PUBLISHED_IN[name]} and name "
            "its path here, or use own"
        )
    path = _packaged() if which == PUBLISHED else Path(which)
    if not path.is_file():
        raise MissingInputError(f"{setting}: no file {path}; own, published or the path of a file")
    readers: dict[str, Callable[[Path], dict[str, list[tuple[str, str]]]]] = {
        "alpaca_eval_2": _read_alpaca_eval,
        "arena_hard": _read_arena_hard,
        "mt_bench": _read_mt_bench,
    }
    try:
        parts = readers[name](path)
    except (KeyError, TypeError, ValueError, IndexError, yaml.YAMLError) as error:
        raise RecipeError(
            f"{setting}: {path} is not a published judge prompt of {name} "
            f"({type(error).__name__}: {error})"
        ) from None
    return _templates(name, PUBLISHED if which == PUBLISHED else path.name, parts)


def _templates(name: str, source: str, parts: dict[str, list[tuple[str, str]]]) -> Templates:
    named = {
        part: Template(f"{name}/{part}/{source}#{digest(turns, length=12)}", tuple(turns))
        for part, turns in parts.items()
    }
    return Templates(source, named)


def _packaged() -> Path:
    """The prompt file inside the installed alpaca-eval, which is not imported for it."""
    spec = importlib.util.find_spec("alpaca_eval")
    if spec is None or not spec.submodule_search_locations:
        raise MissingInputError(
            "eval.judged.alpaca_eval_2.prompt: published is the prompt of the package alpaca-eval, "
            "which is not installed: pip install 'wrpo[eval]', or prompt=own"
        )
    folder = Path(spec.submodule_search_locations[0]) / "evaluators_configs"
    return folder / "alpaca_eval_clf_gpt4_turbo" / "alpaca_eval_clf.txt"


def _read_alpaca_eval(path: Path) -> dict[str, list[tuple[str, str]]]:
    turns = [(role, text.strip()) for role, text in _CHATML.findall(path.read_text("utf-8"))]
    if not turns:
        raise ValueError("no <|im_start|> turns")
    return {"pair": turns}


def _read_arena_hard(path: Path) -> dict[str, list[tuple[str, str]]]:
    config = yaml.safe_load(path.read_text("utf-8"))
    user = config["prompt_template"]
    return {
        "pair": [
            ("system", config["system_prompt"]),
            ("user", user if isinstance(user, str) else user[0]),
        ]
    }


def _read_mt_bench(path: Path) -> dict[str, list[tuple[str, str]]]:
    prompts = {record["name"]: record for record in read_records(path)}
    return {
        part: [
            ("system", prompts[published]["system_prompt"]),
            ("user", prompts[published]["prompt_template"]),
        ]
        for part, published in _MT_NAMES.items()
    }
