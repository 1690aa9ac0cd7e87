"""The rules of a recipe over the responses of all prompts: what row each table makes of a
prompt."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from functools import cached_property
from typing import Any

from data_construction.selection.revisions import (
    gap_limits,
    revision_lesson,
    revision_question,
)
from data_construction.selection.select import (
    Pair,
    Response,
    Triple,
    Window,
    accepted,
    best,
    best_and_worst,
    most_voted,
    pair_of,
    preferable,
    quantile_window,
    right_and_wrong,
    same_source_pair,
    sft_response,
    triple,
    verified_pair,
    verified_sft_response,
)
from wrpo.ids import triple_id
from wrpo.pipeline.tables import Drop, Row
from wrpo.recipe.build import REFERENCE, Build, DomainRules
from wrpo.recipe.revise import QUESTION

Responses = Mapping[str, list[Response]]

_NO_RULES = DomainRules()


class TableRules:
    """Chooses among the scored responses of each prompt.

    Args:
        prompts: rows of the split that the table is made of, by id.
        sources, targets: scored responses by prompt.
        question: that a reviser is asked.
    """

    def __init__(
        self,
        build: Build,
        prompts: Mapping[str, Row],
        sources: Responses,
        targets: Responses,
        *,
        question: str = QUESTION,
    ) -> None:
        self._build = build
        self._sources = sources
        self._targets = targets
        self._question = question
        self._windows = self._find_windows(prompts)

    def sft_row(self, prompt: Row) -> Row | Drop:
        """The best response; where a verifier knows right responses, the best of them."""
        rules, own = self._of(prompt)
        if rules.sft_needs_pair:
            pair = self._pair(prompt)
            if isinstance(pair, Drop):
                return pair
        chosen = verified_sft_response(own) if rules.verifier else sft_response(own)
        return chosen if isinstance(chosen, Drop) else _sft_row(prompt, chosen)

    def triple_row(self, prompt: Row) -> Row | Drop:
        """y_ws, y_wt and y_l."""
        targets = self._targets.get(prompt["prompt_id"], [])
        choose = most_voted if self._build.source_by == "votes" else best
        own = self._of(prompt)[1]
        made = triple(own, targets, min_gap=self._build.min_gap, choose=choose)
        return made if isinstance(made, Drop) else preference_row(prompt, made)

    def pair_row(self, prompt: Row) -> Row | Drop:
        """Two responses of one source."""
        made = self._pair(prompt)
        return made if isinstance(made, Drop) else preference_row(prompt, made)

    def source_pair_rows(self, prompt: Row) -> list[Row] | Drop:
        """Best and worst response of every source whose scores differ, each pair a row."""
        pairs = best_and_worst(self._of(prompt)[1])
        if not pairs:
            return Drop("no_pair_in_window", "no source has two responses with different scores")
        return [preference_row(prompt, pair) for pair in pairs]

    def delta_row(self, prompt: Row) -> Row | Drop:
        """A response of the stronger model over one of the weaker model."""
        models = self._build.delta
        assert models is not None  # a table of such rows has rules
        said = self._everyone(prompt)
        strong, weak = (
            [one for one in said if one.source == name] for name in (models.strong, models.weak)
        )
        made = pair_of(strong, weak)
        return made if isinstance(made, Drop) else preference_row(prompt, made)

    def rejection_rows(self, prompt: Row) -> list[Row] | Drop:
        """The responses that pass, each a row."""
        rules, limits = self._of(prompt)[0], self._build.rejection
        made = accepted(
            self._everyone(prompt),
            verified=rules.verifier is not None,
            min_score=limits.min_score,
            keep=limits.keep,
        )
        return made if isinstance(made, Drop) else [_sft_row(prompt, one) for one in made]

    def response_rows(self, prompt: Row, of: Collection[str]) -> list[Row] | Drop:
        """Each response of some models, and the reference answer where it is among them.

        Responses that are alike stay, so that every model has as many rows as responses.
        """
        said = preferable(self._everyone(prompt))
        rows = [_sft_row(prompt, one) for one in said if one.source in of]
        if REFERENCE in of and prompt["reference_answer"]:
            answer = Response(REFERENCE, 0, prompt["reference_answer"], math.nan)
            rows.append({**_sft_row(prompt, answer), "score": None})
        return rows or Drop("no_source_response")

    def revision_rows(self, prompt: Row) -> list[Row] | Drop:
        """What a reviser should make of each response of the target, each a row."""
        key = prompt["prompt_id"]
        drafts = self._targets.get(key, [])
        if not drafts:
            return Drop("too_few_target_responses", "0, needs 1")
        rows = []
        for draft in drafts:
            lesson = revision_lesson(draft, self._everyone(prompt), self._revision_gaps)
            asked = revision_question(self._question, prompt["messages"], draft.text)
            row = _sft_row({**prompt, "messages": asked}, lesson.source)
            rows.append({**row, "completion": _assistant(lesson.reply)})
        return rows

    @cached_property
    def _revision_gaps(self) -> tuple[float, float]:
        """Where little and much begin, from the gaps of all drafts."""
        gaps = [
            max(one.score for one in [*self._sources.get(key, []), *drafts]) - draft.score
            for key, drafts in self._targets.items()
            for draft in drafts
        ]
        return gap_limits(gaps, self._build.revisions.quantiles)

    def _everyone(self, prompt: Row) -> list[Response]:
        """The responses of sources and target."""
        key = prompt["prompt_id"]
        return [*self._sources.get(key, []), *self._targets.get(key, [])]

    def _pair(self, prompt: Row) -> Pair | Drop:
        rules, own = self._of(prompt)
        choose = verified_pair if rules.verifier else same_source_pair
        return choose(own, self._windows[prompt["domain"]] if rules.window else Window())

    def _of(self, prompt: Row) -> tuple[DomainRules, list[Response]]:
        """The rules of the prompt's domain, and the responses of all sources to it."""
        rules = self._build.domains.get(prompt["domain"], _NO_RULES)
        return rules, self._sources.get(prompt["prompt_id"], [])

    def _find_windows(self, prompts: Mapping[str, Row]) -> dict[str, Window]:
        """The window of pairs, by domain."""
        pairs = self._build.pairs
        gaps: dict[str, list[float]] = {row["domain"]: [] for row in prompts.values()}
        if pairs.quantiles is None:
            return dict.fromkeys(gaps, Window(pairs.min_gap, pairs.max_gap))
        for row in prompts.values():
            rules, own = self._of(row)
            candidates = right_and_wrong(own) if rules.verifier else best_and_worst(own)
            gaps[row["domain"]] += [pair.gap for pair in candidates]
        return {domain: quantile_window(own, *pairs.quantiles) for domain, own in gaps.items()}


def _sft_row(prompt: Row, chosen: Response) -> Row:
    return {
        "prompt_id": prompt["prompt_id"],
        "prompt": prompt["messages"],
        "completion": _assistant(chosen.text),
        "source": chosen.source,
        "index": chosen.index,
        "score": chosen.score,
        "unfinished": [] if chosen.finished else ["completion"],
    }


def preference_row(prompt: Row, made: Triple | Pair) -> Row:
    """A trainer-ready row with the provenance and score of each response."""
    responses: dict[str, Response] = {"chosen": made.chosen, "rejected": made.rejected}
    if isinstance(made, Triple):
        responses = {"source_chosen": made.source_chosen, **responses}
    key = triple_id(prompt["prompt_id"], [(a.source, a.index) for a in responses.values()])
    row: dict[str, Any] = {
        "triple_id": key,
        "prompt_id": prompt["prompt_id"],
        "prompt": prompt["messages"],
    }
    for name, response in responses.items():
        row[name] = _assistant(response.text)
        row[f"{name}_source"] = response.source
        row[f"{name}_index"] = response.index
        row[f"{name}_score"] = None if math.isnan(response.score) else response.score
    row["unfinished"] = [name for name, one in responses.items() if not one.finished]
    return row


def _assistant(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]
