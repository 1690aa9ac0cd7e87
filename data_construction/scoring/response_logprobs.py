"""Ways to the log-prob of a response: the training step's pass, vLLM, or what sampling kept."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from wrpo.errors import ModelError
from wrpo.ids import response_id
from wrpo.pipeline.tables import Row
from wrpo.recipe.resolved import vllm_engine

if TYPE_CHECKING:
    from data_construction.logprobs import LogProbStage
    from wrpo.prefix.logprobs import LogProbPass

logger = logging.getLogger(__name__)

RowPlace = tuple[int, str]
"""A response of a chunk: number of the row, name of the response."""


class Known(NamedTuple):
    """What a method says of one response; the entropy is None where the method does not give it."""

    logp: float
    mean_entropy: float | None
    method: str


class ResponseScorer:
    """The model, ready to score chunks of rows."""

    def __init__(self, stage: LogProbStage, chunks: Sequence[list[Row]]) -> None:
        from wrpo.chat.tokenizer import load_chat_tokenizer
        from wrpo.rows.token_ids import RowSettings

        self.stage = stage
        self._tokenizer = load_chat_tokenizer(stage.path(), stage.entry)
        self._row_settings = RowSettings(
            responses=stage.responses,
            limits=stage.recipe.truncation.limits,
            fold_system=stage.entry.fold_system,
        )
        self._sampled: dict[tuple[str, int], Row] = {}
        self._engine: Any = None
        self._pass: LogProbPass | None = None
        if stage.settings.method == "sampled":
            self._sampled = stage.sampled()
            self._compare(chunks)
        elif stage.settings.method == "vllm":
            self._compare_and_load_vllm(chunks)

    def __call__(self, rows: list[Row]) -> list[Row]:
        """One row of log-probs per response."""
        examples = [self._prepare(row) for row in rows]
        known = self._by_vllm(examples) if self._engine else self._by_sampling(rows, examples)
        rest = [place for place in self._places(examples) if place not in known]
        known |= self._by_training_pass(examples, rest)
        return [
            _logprob_row(row, name, len(example[f"{name}_ids"]), known.get((place, name)))
            for place, (row, example) in enumerate(zip(rows, examples, strict=True))
            for name in self.stage.responses
        ]

    def _prepare(self, row: Row) -> Row:
        from wrpo.rows.prepare import prepare_row

        return prepare_row(row, tokenizer=self._tokenizer, settings=self._row_settings)

    # ---- methods --------------------------------------------------------------------------------

    def _places(self, examples: Sequence[Row]) -> list[RowPlace]:
        """All responses, but those that truncation leaves no token."""
        return [
            (place, name)
            for place, example in enumerate(examples)
            for name in self.stage.responses
            if example[f"{name}_ids"]
        ]

    def _by_training_pass(
        self, examples: Sequence[Row], responses: Iterable[RowPlace]
    ) -> dict[RowPlace, Known]:
        """The training step's own pass over the given responses, rows with the same ones
        together."""
        names_of: dict[int, tuple[str, ...]] = {}
        for place, name in responses:
            names_of[place] = (*names_of.get(place, ()), name)
        wanted: dict[tuple[str, ...], list[int]] = {}
        for place, names in names_of.items():
            wanted.setdefault(names, []).append(place)
        known: dict[RowPlace, Known] = {}
        for names, places in wanted.items():
            scores = self._training_pass()([examples[place] for place in places], names)
            for place, by_name in zip(places, scores, strict=True):
                for name, (logp, entropy) in by_name.items():
                    known[place, name] = Known(logp, entropy, "trainer")
        return known

    def _by_sampling(self, rows: Sequence[Row], examples: Sequence[Row]) -> dict[RowPlace, Known]:
        """Log-probs from sampling, of responses whose tokens are those that were sampled."""
        known = {}
        for place, (row, example) in enumerate(zip(rows, examples, strict=True)):
            whole = example["cut_tokens"][0] == 0  # of the prompt
            for name in self.stage.responses:
                found = self._sampled.get((row["prompt_id"], row.get(f"{name}_index", -1)))
                if found is None or row[f"{name}_source"] != self.stage.source or not whole:
                    continue
                if found["token_ids"] == example[f"{name}_ids"]:
                    known[place, name] = Known(found["logprob"], None, "sampled")
        return known

    def _by_vllm(self, examples: Sequence[Row]) -> dict[RowPlace, Known]:
        places = self._places(examples)
        sums = self._engine(
            [
                (examples[place]["prompt_ids"], examples[place][f"{name}_ids"])
                for place, name in places
            ]
        )
        return {place: Known(logp, None, "vllm") for place, logp in zip(places, sums, strict=True)}

    # ---- comparison with the training pass ------------------------------------------------------

    def _compare(self, chunks: Sequence[list[Row]]) -> None:
        """Holds log-probs from sampling against the training pass on the first responses."""
        for rows in chunks:
            examples = [self._prepare(row) for row in rows]
            known = self._by_sampling(rows, examples)
            if known:
                first = dict(list(known.items())[: self.stage.settings.check_responses])
                self._check(first, self._by_training_pass(examples, first))
                return
        logger.warning(
            "%s: no response of these rows was sampled token for token by this model; all are "
            "computed by the training pass",
            self.stage.name,
        )

    def _compare_and_load_vllm(self, chunks: Sequence[list[Row]]) -> None:
        from wrpo.engines.vllm import VLLMLogProbs

        examples, responses = self._first_responses(chunks)
        if not responses:
            return
        expected = self._by_training_pass(examples, responses)
        self._pass = None  # vLLM wants the memory
        recipe = self.stage.recipe
        self._engine = VLLMLogProbs(
            self.stage.path(),
            entry=self.stage.entry,
            engine=vllm_engine(recipe, self.stage.source),
            max_model_len=recipe.truncation.max_length,
        )
        found = self._by_vllm(examples[: max(place for place, _ in responses) + 1])
        self._check({place: found[place] for place in responses}, expected)

    def _first_responses(self, chunks: Sequence[list[Row]]) -> tuple[list[Row], list[RowPlace]]:
        """The first chunk that has responses at all, and the first of these; else nothing."""
        for rows in chunks:
            examples = [self._prepare(row) for row in rows]
            if responses := self._places(examples):
                return examples, responses[: self.stage.settings.check_responses]
        return [], []

    def _check(self, found: dict[RowPlace, Known], expected: dict[RowPlace, Known]) -> None:
        gaps = [abs(known.logp - expected[place].logp) for place, known in found.items()]
        gaps = [math.inf if math.isnan(gap) else gap for gap in gaps]  # max may overlook a NaN
        tolerance, method = self.stage.settings.tolerance, self.stage.settings.method
        logger.info(
            "%s: %s differs from the training pass by at most %.2g nats on %d responses",
            *(self.stage.name, method, max(gaps), len(gaps)),
        )
        if max(gaps) > tolerance:
            raise ModelError(
                f"{self.stage.name}: log-probs by method {method} differ from those of the "
                f"training step by up to {max(gaps):.3g} nats on {len(gaps)} responses, more than "
                f"logprobs.tolerance={tolerance}; set logprobs.method=trainer, or raise the "
                "tolerance if beta times this difference does not matter to you"
            )

    def _training_pass(self) -> LogProbPass:
        from wrpo.prefix.logprobs import LogProbPass
        from wrpo.training.common import load_policy

        if self._pass is None:
            engine = self.stage.settings.engine
            self._pass = LogProbPass(
                load_policy(self.stage.path(), self.stage.entry, attention=engine.attention),
                pad_token_id=self._tokenizer.pad_token_id,
                batch_tokens=engine.batch_tokens,
                max_length=self.stage.recipe.truncation.max_length,
            )
        return self._pass


def _logprob_row(row: Row, name: str, length: int, known: Known | None) -> Row:
    """A row of the table; a response that truncation leaves no token has no mean."""
    return {
        "response_id": response_id(row["prompt"], row[name][0]["content"]),
        "logp": known.logp if known else 0.0,
        "length": length,
        "mean_logp": known.logp / length if known else None,
        "mean_entropy": known.mean_entropy if known else None,
        "method": known.method if known else "empty",
    }
