"""Learns a router from the scores of all sources on some prompts, and measures it on others.

log p(r | c, e_i) of the objective is here the best score of source i on the prompt, divided by a
temperature: our reading for score tables, where the paper has the likelihood of one response.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from wrpo.chat.template import Messages
from wrpo.errors import DataError
from wrpo.routing.objective import marginal_nll
from wrpo.routing.router import Router, features

_STEPS, _RATE, _DECAY = 100, 0.1, 1e-4
_HELD_OUT, _VALIDATION = 0.2, 0.1
LEAST = 50
"""Prompts that all sources answered, below which nothing is learned."""


@dataclass(frozen=True)
class HeldOutGain:
    """Mean scores on prompts that the router has not seen.

    Attributes:
        router, best_single, uniform, oracle: of the source that the router chooses, of the one that
            is best on the other prompts, of a random one, of the best for each prompt.
        gain: of the router over the best single source.
        error: standard error of that.
        shuffled: as `gain`, of a router that learned from scores of other prompts: the control.
        prompts: how many.
    """

    router: float
    best_single: float
    uniform: float
    oracle: float
    gain: float
    error: float
    shuffled: float
    prompts: int


def learn(
    prompts: Sequence[Messages],
    scores: Sequence[Mapping[str, float]],
    *,
    temperature: float = 1.0,
    seed: int = 0,
) -> tuple[Router, HeldOutGain]:
    """A router of all prompts but the held-out ones, and what it gains on these.

    Args:
        scores: the best score of every source on each prompt.
        temperature: scores that differ by this count as one nat, in standard deviations of scores.

    Raises:
        DataError: there are too few prompts, or one source only.
    """
    names = tuple(sorted(scores[0])) if scores else ()
    if len(prompts) < LEAST or len(names) < 2:
        raise DataError(
            f"{len(prompts)} prompts with a score of each of {len(names)} sources: a router needs "
            f"{LEAST} or more and two sources; sample and score more of them without a router"
        )
    table = torch.tensor([[one[name] for name in names] for one in scores], dtype=torch.float64)
    likelihoods = table / (temperature * table.std().clamp(min=1e-12))
    buckets = [features(prompt) for prompt in prompts]
    order = list(range(len(prompts)))
    random.Random(seed).shuffle(order)
    cut = max(1, round(_HELD_OUT * len(order)))
    held, seen = order[:cut], order[cut:]
    known = sorted({bucket for place in seen for bucket in buckets[place]})
    bags = [_Bag.of(one, {bucket: i for i, bucket in enumerate(known)}) for one in buckets]
    weights = _fit(bags, likelihoods, seen)
    other = seen[:]
    random.Random(seed + 1).shuffle(other)
    mixed = likelihoods.clone()
    mixed[seen] = likelihoods[other]
    control = _fit(bags, mixed, seen)
    measured = _measured(table, seen, held, _scores(weights, bags), _scores(control, bags))
    rows = dict(zip(known, weights.tolist(), strict=True))
    return _router(names, rows, [prompts[place] for place in seen]), measured


class _Bag(NamedTuple):
    """The rows of weights that a prompt adds up, and the factor of their sum."""

    rows: list[int]
    scale: float

    @classmethod
    def of(cls, buckets: Sequence[int], known: Mapping[int, int]) -> _Bag:
        rows = [known[bucket] for bucket in buckets if bucket in known]
        return cls(rows, len(buckets) ** -0.5)


def _scores(weights: Tensor, bags: Sequence[_Bag]) -> Tensor:
    """s of each prompt and source, (n, k)."""
    lengths = torch.tensor([len(one.rows) for one in bags])
    offsets = torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)[:-1]])
    scales = torch.tensor([one.scale for one in bags], dtype=weights.dtype)
    return embedding_bag(
        torch.tensor([row for one in bags for row in one.rows]),
        weights,
        offsets,
        mode="sum",
        per_sample_weights=torch.repeat_interleave(scales, lengths),
    )


def _fit(bags: Sequence[_Bag], likelihoods: Tensor, seen: Sequence[int]) -> Tensor:
    """Weights (rows, k) by Adam, of the step that is best on a part kept for validation."""
    cut = max(1, round(_VALIDATION * len(seen)))
    trained, kept = ([bags[i] for i in part] for part in (seen[cut:], seen[:cut]))
    goals, checks = likelihoods[list(seen[cut:])], likelihoods[list(seen[:cut])]
    count = 1 + max(row for one in bags for row in one.rows)
    weights = torch.zeros(count, likelihoods.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([weights], lr=_RATE)
    best, found = float("inf"), weights.detach().clone()
    for _ in range(_STEPS):
        with torch.no_grad():
            check = float(marginal_nll(_scores(weights, kept), checks).mean())
        if check < best:
            best, found = check, weights.detach().clone()
        optimizer.zero_grad()
        loss = marginal_nll(_scores(weights, trained), goals).mean()
        (loss + _DECAY * weights.square().sum()).backward()
        optimizer.step()
    return found


def _measured(
    table: Tensor, seen: Sequence[int], held: Sequence[int], scores: Tensor, control: Tensor
) -> HeldOutGain:
    rows = table[list(held)]
    single = int(table[list(seen)].mean(0).argmax())

    def of(choice: Tensor) -> Tensor:
        return rows.gather(1, choice[list(held)].argmax(1, keepdim=True))[:, 0]

    routed, mixed = of(scores), of(control)
    gains = routed - rows[:, single]
    return HeldOutGain(
        router=float(routed.mean()),
        best_single=float(rows[:, single].mean()),
        uniform=float(rows.mean()),
        oracle=float(rows.max(1).values.mean()),
        gain=float(gains.mean()),
        error=float(gains.std() / len(held) ** 0.5) if len(held) > 1 else float("nan"),
        shuffled=float((mixed - rows[:, single]).mean()),
        prompts=len(held),
    )


def _router(
    names: tuple[str, ...], rows: Mapping[int, Sequence[float]], prompts: Sequence[Messages]
) -> Router:
    """With the share of prompts that each source gets."""
    router = Router(names, {bucket: row for bucket, row in rows.items() if any(row)})
    shares = []
    for count in range(1, len(names) + 1):
        chosen = [router.chosen(prompt, count=count) for prompt in prompts]
        shares.append({name: sum(name in c for c in chosen) / len(chosen) for name in names})
    return Router(names, router.weights, shares)
