"""Training rows with distributions of teachers, under the tokens of the student."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from math import inf
from typing import TYPE_CHECKING, Any

from wrpo.distillation.alignment import (
    SameTokens,
    Stored,
    Vocabulary,
    partners,
    transferred,
)
from wrpo.distillation.settings import Lesson, StoredRows, TeacherSettings
from wrpo.distillation.token_bytes import TokenBytes, fingerprint
from wrpo.errors import DataError, ModelError
from wrpo.ids import response_id
from wrpo.objectives.base import LogitPlace
from wrpo.pipeline.tables import Row
from wrpo.rows.prepare import prepare_row
from wrpo.rows.token_ids import RowSettings

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

LogitTables = Mapping[LogitPlace, Mapping[str, Mapping[str, Any]]]
"""Rows of `wrpo.pipeline.tables.TEACHER_LOGITS` by response_id, of every table."""


class Lessons:
    """Turns rows of triples into rows with distributions under the student's tokens.

    Attributes:
        positions, fallbacks: tokens of responses, and those of them that no position of a teacher
            fits.
        ties: responses that several teachers find likeliest alike, where one is chosen by that.
        untold: rows that a teacher's template could not render.

    Raises:
        ModelError: a teacher has other tokens than the student, and the objective needs the same.
    """

    MOST_UNTOLD = 0.1
    """Share of rows that may be left out because a teacher has no distributions of them."""

    def __init__(
        self,
        settings: TeacherSettings,
        tables: LogitTables,
        *,
        student: PreTrainedTokenizerBase,
        teachers: Mapping[str, PreTrainedTokenizerBase],
        row_settings: RowSettings,
    ) -> None:
        self._settings = settings
        self._tables = tables
        self._student = student
        self._row_settings = row_settings
        self._count = max(student.get_vocab().values()) + 1
        self.positions = self.fallbacks = self.untold = self.ties = 0
        own = fingerprint(student)
        self._same = {name for name, other in teachers.items() if fingerprint(other) == own}
        if settings.needs_one_tokenizer and (others := sorted(teachers.keys() - self._same)):
            raise ModelError(
                f"objective {settings.objective} needs teachers with the target's tokenizer, and "
                f"{', '.join(others)} has another; objective fusellm aligns different ones"
            )
        foreign = {name: other for name, other in teachers.items() if name not in self._same}
        self._bytes = {name: TokenBytes(other) for name, other in foreign.items()}
        self._own_bytes = TokenBytes(student) if foreign else None
        self._vocabularies = {
            name: Vocabulary(its, self._own_bytes, settings.vocabulary_map, settings.upstream)
            for name, its in self._bytes.items()
            if self._own_bytes is not None
        }

    def __call__(self, rows: Sequence[Row]) -> Dataset:
        """Rows with `prompt_ids`, `length`, `NAME_ids` and `NAME_lessons` of each; those that
        truncation leaves no response are left out, and those that a teacher could not render.

        Lessons are read from the tables and aligned when a row is, and are nowhere before.

        Raises:
            DataError: no row is left, or more than `MOST_UNTOLD` are in no table.
        """
        told = [row for row in rows if self._is_told(row)]
        self._count_untold(rows, told)
        prepared = [self._tokenised(row) for row in told]
        kept = [pair for pair in zip(told, prepared, strict=True) if self._has_responses(pair[1])]
        if not kept:
            raise DataError("no row is left: every prompt fills max_length; raise max_length")
        if self._settings.vocabulary_map == "statistics":
            for row, example in kept:
                self._observe(row, example)
        from datasets import Dataset

        examples = Dataset.from_list([self._example(row, example) for row, example in kept])
        logger.info(
            "teachers: %d of %d positions fit none of theirs and learn the label; %d rows left out",
            *(self.fallbacks, self.positions, len(rows) - len(kept)),
        )
        return examples.with_transform(self._with_lessons)

    def _is_told(self, row: Row) -> bool:
        """Whether all tables have its responses."""
        keys = {
            name: response_id(row["prompt"], row[name][0]["content"])
            for name in self._settings.responses
        }
        return all(keys[place.response] in table for place, table in self._tables.items())

    def _count_untold(self, rows: Sequence[Row], told: Sequence[Row]) -> None:
        self.untold = len(rows) - len(told)
        if not self.untold:
            return
        stages = ", ".join(place.stage for place in self._tables)
        message = (
            f"{self.untold} of {len(rows)} rows are not in all of {stages}: their dropped.parquet "
            "says which responses a teacher's chat template could not render"
        )
        if self.untold > self.MOST_UNTOLD * len(rows):
            raise DataError(f"{message}. Give that source a chat_template, or leave it out")
        logger.warning("%s; they are left out", message)

    def _tokenised(self, row: Row) -> dict[str, Any]:
        return prepare_row(row, tokenizer=self._student, settings=self._row_settings)

    def _has_responses(self, example: Mapping[str, Any]) -> bool:
        return all(example[f"{name}_ids"] for name in self._settings.responses)

    def _example(self, row: Row, example: Mapping[str, Any]) -> Row:
        """What a row is without its distributions, whose positions are counted and checked."""
        made: Row = {"prompt_ids": example["prompt_ids"], "length": example["length"]}
        for name in self._settings.responses:
            ids: list[int] = example[f"{name}_ids"]
            text = row[name][0]["content"]
            key, said_by = response_id(row["prompt"], text), row.get(f"{name}_source")
            stored = self._stored(key, name)
            self.ties += bool(stored) and self._settings.is_tied(stored)
            for lesson in self._settings.lessons(name, stored, said_by):
                self._count_positions(lesson, ids, text)
            made[f"{name}_ids"] = ids
            made[f"{name}_told"] = {"key": key, "text": text, "said_by": said_by}
        return made

    def _count_positions(self, lesson: Lesson, ids: list[int], text: str) -> None:
        self.positions += len(ids)
        if lesson.model not in self._same:
            self.fallbacks += self._places(lesson, ids, text).count(None)
        elif lesson.token_ids[: len(ids)] != ids:
            raise DataError(
                f"{lesson.model} has the target's tokenizer and renders a response as other "
                "tokens; give both the same chat template"
            )

    def _with_lessons(self, columns: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
        """Examples, as columns, with the distributions of their responses."""
        made = {name: values for name, values in columns.items() if not name.endswith("_told")}
        for name in self._settings.responses:
            given = zip(
                *(columns["prompt_ids"], columns[f"{name}_ids"], columns[f"{name}_told"]),
                strict=True,
            )
            made[f"{name}_lessons"] = [
                self._told(name, ids, before=prompt[-1], **told) for prompt, ids, told in given
            ]
        return made

    def _told(
        self, name: str, ids: list[int], *, before: int, key: str, text: str, said_by: str | None
    ) -> list[Row]:
        """The lessons of a response; `before` is the token in front of it."""
        found = self._settings.lessons(name, self._stored(key, name), said_by)
        return [self._aligned(one, ids, text, before=before) for one in found]

    def _stored(self, key: str, name: str) -> StoredRows:
        return {place: t[key] for place, t in self._tables.items() if place.response == name}

    def _aligned(self, lesson: Lesson, ids: list[int], text: str, *, before: int) -> Row:
        """The lesson at the student's positions."""
        stored = lesson.stored
        if lesson.model in self._same:
            kept = slice(len(ids))
            stored = Stored(stored.ids[kept], stored.logps[kept], stored.rest[kept])
            if any(token >= self._count for each in stored.ids for token in each):
                stored = transferred(stored, range(len(ids)), ids, SameTokens(self._count))
        else:
            labels = [before, *ids[:-1]] if self._settings.unshifted else ids
            places = self._places(lesson, ids, text)
            stored = transferred(stored, places, labels, self._vocabularies[lesson.model])
        if self._settings.unshifted:  # behind the end, where no table has a distribution
            stored = Stored([*stored.ids, [ids[-1]]], [*stored.logps, [0.0]], [*stored.rest, -inf])
        return {"weight": lesson.weight, **stored._asdict()}

    def _places(self, lesson: Lesson, ids: list[int], text: str) -> list[int | None]:
        assert self._own_bytes is not None  # there is a teacher with another tokenizer
        return partners(
            self._own_bytes.spans(ids, text),
            self._bytes[lesson.model].spans(lesson.token_ids, text),
        )

    def _observe(self, row: Row, example: Mapping[str, Any]) -> None:
        assert self._own_bytes is not None or not self._vocabularies
        for name in self._settings.responses:
            text = row[name][0]["content"]
            key = response_id(row["prompt"], text)
            for place, stored in self._stored(key, name).items():
                if self._own_bytes is None or place.model not in self._vocabularies:
                    continue
                own, ids = example[f"{name}_ids"], stored["token_ids"]
                its_spans = self._bytes[place.model].spans(ids, text)
                self._vocabularies[place.model].observe(
                    zip(own, self._own_bytes.spans(own, text), strict=True),
                    zip(ids, its_spans, strict=True),
                )
