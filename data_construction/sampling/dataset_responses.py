"""Responses that come with the prompts: a source of the run that is read instead of sampled.

Rows of a dataset with the same prompt are several responses to it, numbered in their order. Token
ids, seeds and log-probs are not known.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import islice
from typing import Any

from data_construction.datasets.messages import MessageList, conversation, ignoring, prompt_messages
from data_construction.datasets.prompt import check_same_prompt, dataset_prompt, without_prompt
from data_construction.datasets.records import located_records
from data_construction.sampling.summary import warn_of_thoughts
from wrpo.chat.thoughts import answer_start
from wrpo.ids import prompt_id
from wrpo.pipeline.parts import Shard, open_stage
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.tables import PROMPTS, RESPONSES, UNCLOSED, Drop, Row, read_rows
from wrpo.recipe import Recipe
from wrpo.recipe.prompts import PromptDataset, dataset_responses
from wrpo.recipe.thinking import Thinking
from wrpo.rows.unread import RESPONSE_COLUMNS, held

logger = logging.getLogger(__name__)

GIVEN = "given"
"""Finish reason of responses that came with a dataset."""


class GivenResponses:
    """The sampling stage of such a source.

    Args:
        recipe: the recipe.
        source: name of the source.
        limit: only so many prompts, in a folder of their own.
    """

    def __init__(self, recipe: Recipe, source: str, *, limit: int | None = None) -> None:
        self.recipe = recipe
        self.source = source
        self.datasets = dataset_responses(recipe.prompts)[source]
        self.pipeline = Pipeline(recipe)
        self.stage = f"sample/{source}"
        self.limit = limit

    def run(self, shard: Shard) -> None:
        """Writes the missing parts of this shard.

        Raises:
            MissingInputError: a dataset is not there.
            DataError: too many rows hold no response.
        """
        responses, dropped = self.responses()
        prompts, size = sorted(responses)[: self.limit], self.recipe.sample.chunk_prompts
        chunks = [prompts[at : at + size] for at in range(0, len(prompts), size)]
        with open_stage(
            self.pipeline, self.stage, parts=len(chunks), shard=shard, trial=self.limit
        ) as work:
            if work.complete:
                return
            total = len(dropped) + sum(map(len, responses.values()))
            limit = self.recipe.sample.max_dropped_share
            work.check_dropped(dropped, total=total, limit=limit)
            for part in work.todo:
                rows = [row for key in chunks[part] for row in responses[key]]
                work.write_part(part, rows, RESPONSES, dropped=dropped if part == 0 else None)
        for name, dataset in self.datasets.items():
            if dataset.responses and dataset.responses.thinking.thinks is None:
                place = f"prompts.datasets.{name}.responses.thinking"
                warn_of_thoughts(self.stage, work.path, field=place)
        logger.info(
            "%s: %d prompts with responses, %d dropped", self.stage, len(prompts), len(dropped)
        )

    def responses(self) -> tuple[dict[str, list[Row]], list[Row]]:
        """Rows of the table by prompt, for the prompts of the run, and what was dropped."""
        # Of any origin: an earlier dataset may have had the same prompt.
        kept = {row["prompt_id"] for row in read_rows(self.pipeline.finished("prompts"), PROMPTS)}
        found: dict[str, list[Row]] = {}
        dropped: list[Row] = []
        for dataset in self.datasets.values():
            for where, prompt, record in _asked(dataset):
                key = prompt_id(prompt)
                if key not in kept:
                    continue
                try:
                    text = _response(record, dataset, prompt)
                    row = self._row(key, len(found.get(key, ())), text, dataset)
                except Drop as drop:
                    located = Drop(drop.reason, f"{where}: {drop.detail}")
                    dropped.append(located.row(key, source=self.source))
                else:
                    found.setdefault(key, []).append(row)
        return found, dropped

    def dry_run(self) -> str:
        """What the command would do, as text."""
        named = [f"{name} ({d.path})" for name, d in self.datasets.items()]
        return "\n".join(
            [
                f"stage      {self.stage} ({self.pipeline.state(self.stage)})",
                f"reads      the responses of {', '.join(named)}",
                f"writes     {self.pipeline.folder(self.stage, trial=self.limit)}",
            ]
        )

    def _row(self, key: str, index: int, text: str, dataset: PromptDataset) -> Row:
        thinking = dataset.responses.thinking if dataset.responses else Thinking()
        start = answer_start(text, thinking.tags) if thinking.thinks else None
        unclosed = start == len(text) and not text.rstrip().endswith(thinking.tags[1])
        unknown = ("token_ids", "token_count", "seed", "logprob", "thought_tokens")
        row: Row = {"prompt_id": key, "source": self.source, "index": index, "text": text}
        row |= {"finish_reason": UNCLOSED if unclosed else GIVEN, "answer_start": start}
        return {**row, **dict.fromkeys(unknown)}


def _asked(dataset: PromptDataset) -> Iterator[tuple[str, MessageList, dict[str, Any]]]:
    """(place, prompt, record) of every row that has a prompt; the others are dropped there."""
    for where, record in islice(located_records(dataset), dataset.limit):
        if not isinstance(record, dict):
            continue
        try:
            prompt = dataset_prompt(record, dataset)
        except Drop:
            continue
        yield where, prompt, record


def _response(record: dict[str, Any], dataset: PromptDataset, prompt: MessageList) -> str:
    column = dataset.responses.column if dataset.responses else ""
    if record.get(column) is None:
        raise Drop("unusable", f'has no column "{column}"; it has: {", ".join(record)}')
    lost = held(record, [name for name in RESPONSE_COLUMNS if name != column])
    if lost:
        raise Drop("unusable", f"its column {lost} holds something, {ignoring(lost)}")
    before, text = conversation(record[column])
    if before:
        check_same_prompt(prompt, before)
        return text
    asked = prompt_messages(record[dataset.prompt])
    return without_prompt(asked, {column: text})[column]
