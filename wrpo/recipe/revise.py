"""Revision: a model improves the responses of a source that the rewards like least."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator

from wrpo.files import is_file
from wrpo.judging.questions import fields_of
from wrpo.recipe.sampling import SamplingOverride
from wrpo.recipe.shipped import find_file
from wrpo.settings import Section, Share

REVISED = "revised/"
"""Before the name of the source whose responses are revised: the name of the revised ones."""

QUESTION = """\
{{conversation}}

A draft of the response to this:
{{draft}}

Improve the draft. Write on the first line KEEP if it is good as it is, MINOR if little has to \
change, MAJOR if much has. After KEEP write nothing. Otherwise write the whole improved response \
from the second line on, and nothing else."""
"""What a reviser is asked; this toolkit's own words."""


def revised_source(source: str) -> str | None:
    """Whose responses are revised under this name; None where it is no name of revised ones."""
    return source.removeprefix(REVISED) if source.startswith(REVISED) else None


class Revision(Section):
    """How the responses of one source are revised (after SEFT, arXiv 2406.10813, and ReAlign)."""

    by: str = Field(
        description="Who revises: a source, which is asked; or an arm trained on revisions."
    )
    share: Share = Field(
        0.5,
        description="The share of all responses, those of the lowest scores, that the reviser "
        "sees; the others stay as they are.",
    )
    gate: bool = Field(
        True, description="A revision that scores below its draft is put back to the draft."
    )
    prompt: Path | None = Field(
        None,
        description="Text file with the question: {{conversation}} and {{draft}}. Unset: a "
        "general one, which asks for KEEP, MINOR or MAJOR on the first line.",
    )
    sampling: SamplingOverride = Field(
        default_factory=SamplingOverride, description="What differs from `sample` for the reviser."
    )

    @property
    def template(self) -> str:
        """The text of the question."""
        return QUESTION if self.prompt is None else _read(self.prompt)

    @field_validator("prompt")
    @classmethod
    def _has_its_fields(cls, prompt: Path | None) -> Path | None:
        if prompt is None:
            return None
        if not is_file(find_file(prompt)):
            raise ValueError(f"no such file: {prompt}")
        found = fields_of(_read(prompt))
        if found != {"conversation", "draft"}:
            raise ValueError(
                f"{prompt} must have the fields {{{{conversation}}}} and {{{{draft}}}}, and has "
                f"{', '.join(sorted(found)) or 'none'}"
            )
        return prompt


def _read(prompt: Path) -> str:
    return find_file(prompt).read_text(encoding="utf-8")
