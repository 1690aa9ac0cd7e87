"""A dialogue model with a table of records: selectors, generator, and what they say together."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from wrpo.chat.tokenizer import load_tokenizer
from wrpo.errors import MissingInputError, ModelError, loading_failures
from wrpo.files import is_file, read_json, replacing
from wrpo.retrieval.exchanges import DialogueExchange, text_of
from wrpo.retrieval.generator import Generator
from wrpo.retrieval.meta_knowledge import meta_knowledge
from wrpo.retrieval.objective import over_records
from wrpo.retrieval.selectors import AttributeSelector, EntitySelector
from wrpo.retrieval.settings import Method

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_GENERATOR, _CONTEXTS, _RECORDS, _ATTRIBUTES = "generator", "contexts", "records", "attributes"
_HEAD, _FACTS = "attributes.safetensors", "retrieval.json"


@dataclass(frozen=True)
class Retrieved:
    """What a response was written from.

    Attributes:
        places: of the records among those of the exchange, the best first.
        scores: of the entity selector, as many.
        texts: what the generator reads of each.
    """

    places: list[int]
    scores: list[float]
    texts: list[str]


@dataclass(frozen=True)
class DialogueModel:
    """Selectors and generator.

    Attributes:
        method: maker filters the attributes of records, mk-tod puts meta knowledge before them.
        names: of the attributes, in the order of the attribute selector's outputs.
        top: how many records are retrieved.
        threshold: the probability from which an attribute is kept.
        confidence: the shares from which the retriever's confidence is high, and mid.
    """

    method: Method
    generator: Generator
    entities: EntitySelector
    attributes: AttributeSelector
    names: tuple[str, ...]
    top: int = 7
    threshold: float = 0.1
    confidence: tuple[float, float] = (0.75, 0.4)

    @classmethod
    def start(
        cls, method: Method, generator: str, encoder: str, names: Sequence[str], **options: Any
    ) -> DialogueModel:
        """From a T5 and a BERT; the head of the attribute selector is drawn.

        Raises:
            ModelError: a model cannot be loaded, or is of another kind.
        """
        tokenizer = load_tokenizer(encoder)
        return cls(
            method,
            Generator(_t5(generator), load_tokenizer(generator)),
            EntitySelector(tokenizer, _encoder(encoder)),
            AttributeSelector(tokenizer, _encoder(encoder), len(names)),
            tuple(names),
            **options,
        )

    def save(self, folder: Path) -> None:
        """Writes a folder of models that transformers loads, and what ties them together."""
        parts = {
            _GENERATOR: (self.generator.model, self.generator.tokenizer),
            _CONTEXTS: (self.entities.contexts, self.entities.tokenizer),
            _RECORDS: (self.entities.records, self.entities.tokenizer),
            _ATTRIBUTES: (self.attributes.encoder, self.attributes.tokenizer),
        }
        folder.mkdir(parents=True, exist_ok=True)
        for name, (model, tokenizer) in parts.items():
            model.save_pretrained(folder / name)
            tokenizer.save_pretrained(folder / name)
        with replacing(folder / _HEAD) as partial:
            save_file(self.attributes.head.state_dict(), partial)
        facts = {
            "method": self.method,
            "attributes": list(self.names),
            "top": self.top,
            "threshold": self.threshold,
            "confidence": list(self.confidence),
        }
        with replacing(folder / _FACTS) as partial:
            partial.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> DialogueModel:
        """What `save` has written.

        Raises:
            MissingInputError: the folder holds none.
            ModelError: one of its models cannot be loaded.
        """
        if not is_file(folder / _FACTS):
            raise MissingInputError(
                f"{folder}: no {_FACTS}; train one with --generator and --encoder, or correct the "
                "path"
            )
        facts = read_json(folder / _FACTS, dict, way_out="train it again: python -m wrpo.retrieval")
        model = cls.start(
            facts["method"],
            str(folder / _GENERATOR),
            str(folder / _CONTEXTS),
            facts["attributes"],
            top=facts["top"],
            threshold=facts["threshold"],
            confidence=tuple(facts["confidence"]),
        )
        model.entities.records = _encoder(str(folder / _RECORDS))
        model.attributes.encoder = _encoder(str(folder / _ATTRIBUTES))
        model.attributes.head.load_state_dict(load_file(folder / _HEAD))
        return model

    def retrieve(self, exchanges: Sequence[DialogueExchange]) -> list[list[int]]:
        """Places of the best records of each exchange."""
        return [places[: self.top] for places in self.entities.ranked(exchanges)]

    def scores(
        self, exchanges: Sequence[DialogueExchange], places: Sequence[Sequence[int]]
    ) -> Tensor:
        """Of the entity selector for k records of each exchange, (n, k), with gradients."""
        return self.entities(
            [one.context for one in exchanges],
            [
                [text_of(one.records[place]) for place in own]
                for one, own in zip(exchanges, places, strict=True)
            ],
        )

    def texts(
        self, exchanges: Sequence[DialogueExchange], places: Sequence[Sequence[int]], scores: Tensor
    ) -> tuple[list[list[str]], Tensor | None]:
        """What the generator reads of the records, and the logits of attributes (n, k, a).

        Args:
            places: of k records of each exchange, the best first.
            scores: of the entity selector for these, (n, k).
        """
        pairs = list(zip(exchanges, places, strict=True))
        if self.method == "mk-tod":
            shares = scores.detach().softmax(-1).tolist()
            return [
                [
                    meta_knowledge(
                        one.records[place],
                        order=order,
                        share=share,
                        context=one.context,
                        thresholds=self.confidence,
                    )
                    + text_of(one.records[place])
                    for order, (place, share) in enumerate(zip(own, row, strict=True), start=1)
                ]
                for (one, own), row in zip(pairs, shares, strict=True)
            ], None
        whole = [[text_of(one.records[place]) for place in own] for one, own in pairs]
        logits = self.attributes([one.context for one in exchanges], whole)
        kept = over_records(logits, scores).sigmoid() > self.threshold
        names = [
            [name for name, keep in zip(self.names, row, strict=True) if keep]
            for row in kept.tolist()
        ]
        return [
            [text_of(one.records[place], names[row]) for place in own]
            for row, (one, own) in enumerate(pairs)
        ], logits

    @torch.no_grad()
    def respond(
        self, exchanges: Sequence[DialogueExchange], *, batch: int = 32
    ) -> list[tuple[Retrieved, str]]:
        """Greedy responses, with what they were written from."""
        self.evaluate()
        found: list[tuple[Retrieved, str]] = []
        for start in range(0, len(exchanges), batch):
            part = exchanges[start : start + batch]
            pairs = list(zip(part, self.retrieve(part), strict=True))
            for _, same in groupby(pairs, key=lambda pair: len(pair[1])):
                found += self._respond(*zip(*same, strict=True))
        return found

    def _respond(
        self, exchanges: Sequence[DialogueExchange], places: Sequence[list[int]]
    ) -> list[tuple[Retrieved, str]]:
        scores = self.scores(exchanges, places)
        texts, _ = self.texts(exchanges, places, scores)
        contexts = [one.context for one in exchanges]
        responses = self.generator.respond(self.generator.read(contexts, texts))
        rows = zip(places, scores.tolist(), texts, responses, strict=True)
        return [(Retrieved(own, s, text), response) for own, s, text, response in rows]

    def evaluate(self) -> None:
        """Without dropout, and without vectors of an earlier state."""
        self.entities.refresh()
        for part in (self.generator.model, self.entities, self.attributes):
            part.eval()

    def train(self) -> None:
        """With dropout."""
        for part in (self.generator.model, self.entities, self.attributes):
            part.train()


def _t5(name: str) -> PreTrainedModel:
    from transformers import T5ForConditionalGeneration

    try:
        return T5ForConditionalGeneration.from_pretrained(name, use_safetensors=True)
    except loading_failures() as error:
        raise ModelError(f"--generator {name}: no T5 that can be loaded: {error}") from error


def _encoder(name: str) -> PreTrainedModel:
    from transformers import AutoModel

    try:
        return AutoModel.from_pretrained(name, use_safetensors=True)
    except loading_failures() as error:
        raise ModelError(f"--encoder {name}: no encoder that can be loaded: {error}") from error
