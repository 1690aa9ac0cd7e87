"""Trains a dialogue model: the generator on responses, the selectors on what helps the generator.

MAKER:   L = L_gen + L_attribute + L_distill
MK-TOD:  L = NLL + MML + margin

In MAKER's the entity selector learns from the generator's cross-attention, in MK-TOD's from its
likelihood given each record.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wrpo.errors import DataError
from wrpo.retrieval.exchanges import DialogueExchange, named, text_of
from wrpo.retrieval.generator import IGNORED, Generator, Passages, attention_seen, importance
from wrpo.retrieval.meta_knowledge import NEGATIVE
from wrpo.retrieval.model import DialogueModel
from wrpo.retrieval.objective import attribute_loss, distillation, margin_loss
from wrpo.retrieval.settings import Control, RetrievalTraining
from wrpo.routing.objective import marginal_nll

logger = logging.getLogger(__name__)

_CLIP, _DECAY = 1.0, 0.01


def train_dialogues(
    model: DialogueModel, exchanges: Sequence[DialogueExchange], how: RetrievalTraining
) -> list[dict[str, float]]:
    """Trains in place; the losses of each step.

    Raises:
        DataError: the warm-up has no response that tells a record from another.
    """
    torch.manual_seed(how.seed)
    draw = random.Random(how.seed)
    _warm_up(model, exchanges, how, draw)
    optimizer = torch.optim.AdamW(
        [
            {"params": model.generator.model.parameters(), "lr": how.generator_rate},
            {"params": model.entities.parameters(), "lr": how.selector_rate},
            {"params": model.attributes.parameters(), "lr": how.selector_rate},
        ],
        weight_decay=_DECAY,
    )
    falling = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / how.steps)
    log = []
    model.train()
    for step, batch in enumerate(_batches(exchanges, how.batch, how.steps, draw)):
        if step % how.refresh == 0:
            model.entities.refresh()
        losses = _losses(model, batch, how.control if step >= how.selectors_from else None)
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        for group in optimizer.param_groups:
            torch.nn.utils.clip_grad_norm_(group["params"], _CLIP)
        optimizer.step()
        falling.step()
        log.append({name: loss.item() for name, loss in losses.items()})
        if (step + 1) % 100 == 0:
            logger.info("step %d of %d: %s", step + 1, how.steps, log[-1])
    model.evaluate()
    return log


def _batches(
    exchanges: Sequence[DialogueExchange], size: int, steps: int, draw: random.Random
) -> Iterator[list[DialogueExchange]]:
    """Every exchange once before any comes again."""
    waiting: list[DialogueExchange] = []
    for _ in range(steps):
        if len(waiting) < size:
            waiting += draw.sample(exchanges, len(exchanges))
        batch, waiting = waiting[:size], waiting[size:]
        yield batch


def _warm_up(
    model: DialogueModel,
    exchanges: Sequence[DialogueExchange],
    how: RetrievalTraining,
    draw: random.Random,
) -> None:
    """Distant supervision: the right record is the one that the response names most values of."""
    if not how.warm_up:
        return
    pairs = [(one, one.best()[0]) for one in exchanges if one.best()]
    if not pairs:
        raise DataError("no response names a value of its records; train without --warm-up")
    optimizer = torch.optim.AdamW(model.entities.parameters(), lr=how.selector_rate)
    for _ in range(how.warm_up):
        batch = draw.sample(pairs, min(how.batch, len(pairs)))
        texts = [text_of(one.records[place]) for one, place in batch]
        scores = model.entities([one.context for one, _ in batch], [texts] * len(batch))
        same = torch.tensor([[one == other for other in texts] for one in texts])
        right = scores.log_softmax(-1).masked_fill(~same.to(scores.device), -torch.inf)
        optimizer.zero_grad()
        (-right.logsumexp(-1).mean()).backward()
        optimizer.step()


@dataclass(frozen=True)
class _Step:
    """What the losses of one step are made from.

    Attributes:
        scores: of the entity selector for k records of each exchange, (n, k), with gradients.
        texts: what the generator reads of each of these records.
        labels: of the responses, (n, t).
        control: what the entity selector learns from; None: it does not learn in this step.
    """

    batch: Sequence[DialogueExchange]
    scores: Tensor
    texts: Sequence[Sequence[str]]
    labels: Tensor
    control: Control | None

    @property
    def contexts(self) -> list[str]:
        return [one.context for one in self.batch]


def _losses(
    model: DialogueModel, batch: Sequence[DialogueExchange], control: Control | None
) -> dict[str, Tensor]:
    places = model.retrieve(batch)
    count = min(map(len, places))
    places = [own[:count] for own in places]
    scores = model.scores(batch, places)
    texts, logits = model.texts(batch, places, scores)
    labels = model.generator.labels([one.response for one in batch])
    step = _Step(batch, scores, texts, labels, control)
    if logits is None:
        return _mk_tod(model, step)
    wanted = torch.tensor(
        [_said(one, own, model.names) for one, own in zip(batch, places, strict=True)]
    )
    attributes = attribute_loss(logits, scores, wanted.to(logits)).mean()
    return {**_maker(model.generator, step), "attributes": attributes}


def _said(one: DialogueExchange, places: Sequence[int], names: Sequence[str]) -> list[float]:
    """1 for each attribute of which a record has a value in the context or the response."""
    said = f"{one.context}\n{one.response}"
    records = [one.records[place] for place in places]
    return [
        float(bool(named([record[name] for record in records if name in record], said)))
        for name in names
    ]


def _maker(generator: Generator, step: _Step) -> dict[str, Tensor]:
    read = generator.read(step.contexts, step.texts)
    with attention_seen(generator.model) as seen:
        logs = generator.log_probs(read, step.labels)
    losses = {"generator": -logs.sum() / (step.labels != IGNORED).sum()}
    values = generator.values(
        [one.response for one in step.batch],
        [[value for record in one.records for value in record.values()] for one in step.batch],
    )
    known = values.any(1)
    if step.control and known.any():
        targets = importance(seen, read, values)[known].softmax(-1)
        own = distillation(step.scores[known], _controlled(targets, step.control))
        losses["distillation"] = own.mean()
    return losses


def _mk_tod(model: DialogueModel, step: _Step) -> dict[str, Tensor]:
    generator, (n, k) = model.generator, step.scores.shape
    read = generator.read(step.contexts, _with_negative(model, step))
    tokens = (step.labels != IGNORED).sum(1).to(step.scores.device)
    losses = {"generator": -generator.log_probs(read, step.labels).sum() / tokens.sum()}
    each: Passages = read.first(k).each()
    given = generator.log_probs(each, step.labels.repeat_interleave(k, 0)).sum(-1).view(n, k)
    nothing = generator.read(step.contexts, [[""]] * n)
    alone = generator.log_probs(nothing, step.labels).sum(-1)
    losses["margin"] = margin_loss(alone / tokens, given / tokens[:, None]).mean()
    if step.control:
        signal = _controlled(given, step.control)
        losses["marginal"] = marginal_nll(step.scores, signal).mean()
    return losses


def _with_negative(model: DialogueModel, step: _Step) -> list[list[str]]:
    """The records, and behind them the worst of the exchange with its own marker.

    Where every record is retrieved, in any exchange of the batch, there is none.
    """
    pairs = list(zip(step.batch, step.texts, strict=True))
    if any(len(one.records) <= len(own) for one, own in pairs):
        return [list(own) for own in step.texts]
    worst = [ranked[-1] for ranked in model.entities.ranked(step.batch)]
    return [
        [*own, f"{NEGATIVE}; {text_of(one.records[place])}"]
        for (one, own), place in zip(pairs, worst, strict=True)
    ]


def _controlled(signal: Tensor, control: Control) -> Tensor:
    """The generator's signal (n, k), or what a control puts in its place."""
    if control == "shuffled":
        return signal.gather(1, torch.rand_like(signal).argsort(1))
    if control == "uniform":
        return signal.mean(1, keepdim=True).expand_as(signal)
    return signal
