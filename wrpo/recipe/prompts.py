"""The `prompts:` part of the recipe: where prompts come from, and which of them are used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from wrpo.recipe.explore import Explore
from wrpo.recipe.names import refuse_names
from wrpo.recipe.thinking import Thinking
from wrpo.rows.formats.base import row_formats
from wrpo.settings import Section, Share

if TYPE_CHECKING:
    RowFormatName = str
else:
    RowFormatName = Literal[tuple(row_formats())]

Language = Annotated[str, Field(pattern=r"^[a-z]{2}(-[a-z]{2})?$")]


class Dataset(Section):
    """A table of rows: a dataset of the hub, or local files."""

    path: str = Field(
        description="Hub id; a .jsonl, .json, .csv (or these with .gz, .bz2, .xz) or .parquet "
        "file; a folder of such files or one that `datasets` saved."
    )
    config: str | None = Field(
        None, description="Configuration of a hub dataset, or of a folder whose README.md has some."
    )
    split: str = Field(
        "train", description="Split of a hub dataset, or of a folder, by the names of its files."
    )
    revision: str | None = Field(None, description="Branch, tag or commit of a hub dataset.")
    format: RowFormatName | None = Field(
        None,
        description="How its rows are laid out; unset: inferred from the columns, in imported "
        "tables.",
    )
    ignore: list[str] | None = Field(
        None,
        min_length=1,
        description="Columns, and keys of messages, without which its rows are read.",
    )


class NearDuplicates(Section):
    """Of prompts whose user turns share most of their word n-grams, one is kept."""

    threshold: float = Field(
        0.8, ge=0.5, le=1.0, description="Jaccard similarity of n-gram sets from which one is left."
    )
    ngram: int = Field(
        5, ge=1, description="Words per n-gram; in scripts without spaces, characters."
    )


class BenchmarkTexts(Dataset):
    """Evaluation questions that no prompt may repeat."""

    split: str = Field(
        "test", description="Split of a hub dataset, or of a folder, by the names of its files."
    )
    column: str = Field("prompt", description="Column: text, one message, or a list of messages.")


class Decontaminate(Section):
    """Drops prompts that share a word n-gram with a benchmark."""

    benchmarks: dict[str, BenchmarkTexts] = Field(min_length=1, description="By name.")
    ngram: int = Field(
        13,
        ge=1,
        description="Words per n-gram; in scripts without spaces, characters. Shorter questions "
        "must be equal to the prompt.",
    )


class Filters(Section):
    """Which prompts are used; lengths, language, code and maths are those of the user turns."""

    languages: list[Language] | None = Field(
        None,
        min_length=1,
        description="Codes of langdetect, such as en or zh-cn; zh is any zh. Text without a "
        "language, such as 2+2, stays.",
    )
    domains: list[str] | None = Field(None, min_length=1, description="Only these.")
    exclude_domains: list[str] = Field(default_factory=list, description="All but these.")
    remove_code: bool = Field(False, description="Drop what looks like a programming task.")
    remove_math: bool = Field(False, description="Drop what looks like a mathematical task.")
    min_chars: int | None = Field(None, ge=1, description="Shorter prompts are dropped.")
    max_chars: int | None = Field(None, ge=1, description="Longer prompts are dropped.")

    @model_validator(mode="after")
    def _leaves_something(self) -> Filters:
        if self.min_chars and self.max_chars and self.min_chars > self.max_chars:
            raise ValueError(f"min_chars {self.min_chars} is above max_chars {self.max_chars}")
        both = sorted(set(self.domains or []) & set(self.exclude_domains))
        if both:
            raise ValueError(f"{both} are both in domains and in exclude_domains")
        return self


class DatasetResponses(Section):
    """Responses that come with a dataset: a source of the run that is read instead of sampled."""

    source: str = Field(description="Name of that source.")
    column: str = Field(
        description="Column: text, or messages that end in the response. Rows with the same prompt "
        "are several responses to it."
    )
    thinking: Thinking = Field(
        default_factory=Thinking,
        description="Whether the responses begin with thoughts: on or off, or their tags. Unset: "
        "off, with a warning where they seem to.",
    )


EXPLORED = "(explored)"
"""The path of datasets that are made up; nothing is there."""


class PromptDataset(Dataset):
    """Where prompts come from: one prompt per row."""

    renamed: ClassVar[Mapping[str, str]] = {"answer": "reference_answer", "answers": "responses"}

    prompt: str = Field("prompt", description="Column: text, one message, or a list of messages.")
    input: str | None = Field(
        None, description="Column whose text, where there is any, follows that of the prompt."
    )
    reference_answer: str | Annotated[list[str], Field(min_length=1)] | None = Field(
        None,
        description="Column with the reference answer, for verifiers; of several columns, such as "
        "`[test, entry_point]`, it is a JSON object.",
    )
    domain: str | None = Field(None, description="Column that names the domain of a prompt.")
    domain_name: str | None = Field(
        None, description="Domain of all prompts; with neither, it is the name of the dataset."
    )
    responses: DatasetResponses | None = Field(
        None, description="Responses that come with the prompts."
    )
    filters: Filters | None = Field(
        None, description="Instead of `prompts.filters`, for this dataset; `{}`: no filter."
    )
    max_prompts: int | None = Field(
        None, ge=1, description="Keep so many of the distinct prompts, chosen by hash."
    )
    sft_share: Share | None = Field(
        None, description="Instead of `prompts.sft_share`, for this dataset; 1: no preferences."
    )
    limit: int | None = Field(None, ge=1, description="Only the first rows.")
    expected_prompts: int | None = Field(
        None, ge=1, description="About so many of them will be used: for `plan`, until it is known."
    )
    explore: Explore | None = Field(
        None, description="Instead of `path`: prompts that a judge makes up, sub-task by sub-task."
    )

    @model_validator(mode="before")
    @classmethod
    def _explored_ones_have_no_path(cls, given: Any) -> Any:
        if not isinstance(given, dict) or given.get("explore") is None:
            return given
        if given.get("path", EXPLORED) != EXPLORED:
            raise ValueError(
                f"path is {given['path']}, and explore makes the prompts up; take one of them out"
            )
        return {**given, "path": EXPLORED}

    @model_validator(mode="after")
    def _explored_ones_are_prompts_only(self) -> PromptDataset:
        for name in ("responses", "reference_answer", "format", "input"):
            if self.explore is not None and getattr(self, name) is not None:
                raise ValueError(f"{name}: explored prompts have none; take it out")
        return self

    @model_validator(mode="after")
    def _one_domain(self) -> PromptDataset:
        if self.domain is not None and self.domain_name is not None:
            raise ValueError("domain is a column, domain_name the domain itself; give one of them")
        return self

    @property
    def answer_columns(self) -> list[str]:
        """The columns of the reference answer."""
        names = self.reference_answer
        return [names] if isinstance(names, str) else names or []


class Prompts(Section):
    """Which prompts the run uses and how they are divided."""

    datasets: dict[str, PromptDataset] = Field(min_length=1, description="By origin name.")
    filters: Filters | None = Field(None, description="Which prompts are used; unset: all.")
    decontaminate: Decontaminate | None = Field(
        None, description="Benchmarks that prompts must not overlap with."
    )
    near_duplicates: NearDuplicates | None = Field(
        None, description="Removes near copies, `{}` with the defaults; unset: only equal prompts."
    )
    expected_prompts: int | None = Field(
        None, ge=1, description="How many there will be, for `plan`; unset: what `limit` says."
    )
    sft_share: Share = Field(1 / 3, description="Share that goes to SFT; the rest to preferences.")
    max_dropped_share: Share = Field(
        0.2, description="The stage stops above this share of unusable and repeated rows."
    )

    @field_validator("datasets")
    @classmethod
    def _names(cls, datasets: dict[str, PromptDataset]) -> dict[str, PromptDataset]:
        refuse_names(datasets)
        return datasets


def prompt_domains(prompts: Prompts) -> set[str] | None:
    """The domains that prompts can have; None where a column of a dataset names them."""
    if any(dataset.domain is not None for dataset in prompts.datasets.values()):
        return None
    return {dataset.domain_name or name for name, dataset in prompts.datasets.items()}


def explored_datasets(prompts: Prompts) -> dict[str, Explore]:
    """How the datasets are explored that are, by name."""
    datasets = prompts.datasets.items()
    return {name: one.explore for name, one in datasets if one.explore is not None}


def dataset_responses(prompts: Prompts) -> dict[str, dict[str, PromptDataset]]:
    """The sources whose responses come with datasets: by source, its datasets by name."""
    found: dict[str, dict[str, PromptDataset]] = {}
    for name, dataset in prompts.datasets.items():
        if dataset.responses is not None:
            found.setdefault(dataset.responses.source, {})[name] = dataset
    return found
