"""Judge prompts with gaps: this toolkit's own words, or those of a published file.

Published prompts are their authors' texts and are not part of this toolkit; their files are read
in the form in which they are published. Scores made with this toolkit's own words are not
comparable with the papers'.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from wrpo.errors import RecipeError
from wrpo.ids import digest
from wrpo.judging.questions import boundary

OWN, PUBLISHED = "own", "published"

JudgePromptParts = dict[str, list[tuple[str, str]]]
"""The parts of a judge prompt by name, each a list of (role, text)."""

_GAP = re.compile(r"\{([A-Za-z]\w*)\}")


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
        """The messages; every gap in one pass, so that responses cannot fill gaps.

        The gap `tag` is `wrpo.judging.questions.boundary` of the values.

        Raises:
            RecipeError: the template has a gap that this benchmark does not fill.
        """

        def value(gap: re.Match[str]) -> str:
            if gap[1] not in filled:
                raise RecipeError(f"judge prompt {self.name}: nothing is known for {{{gap[1]}}}")
            return filled[gap[1]]

        filled = {"tag": boundary(values.values()), **values}
        return [{"role": role, "content": _GAP.sub(value, text)} for role, text in self.turns]


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


def named_templates(name: str, source: str, parts: JudgePromptParts) -> Templates:
    """The prompts of the benchmark of that name, each called by its words and where it is from."""
    named = {
        part: Template(f"{name}/{part}/{source}#{digest(turns, length=12)}", tuple(turns))
        for part, turns in parts.items()
    }
    return Templates(source, named)
