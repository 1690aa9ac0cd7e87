"""Which responses become training rows: pure functions over the scored responses of one prompt.

* A response without text, or whose score is no finite number, is no candidate.
* A response that is not `preferable` can be the worst, never the best.
* Order decides ties: candidates are compared by score, then by source name, then by index, so the
  choice depends on nothing else.
* A preference between equal texts teaches nothing and is no row.
* Gaps are differences of float64 numbers, so 0.8 - 0.7 is a little more than 0.1. Limits are
  therefore met within TOLERANCE: above every rounding error of a difference, below the step of a
  float32 score near 0.1.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from wrpo.pipeline.tables import Drop

TOLERANCE = 1e-9
"""Two gaps that differ by no more are the same gap."""


@dataclass(frozen=True, slots=True)
class Response:
    """One scored response of a prompt.

    Attributes:
        score: NaN where nothing scored it.
        correct: what a verifier says; None without one.
        finished: it ends by itself.
        preferable: it may be trained on as a good response.
        rewards: what each reward gave it, by name.
    """

    source: str
    index: int
    text: str
    score: float
    correct: bool | None = None
    finished: bool = True
    preferable: bool = True
    rewards: Mapping[str, float] = field(default_factory=dict, compare=False)

    @property
    def place(self) -> tuple[str, int]:
        """Source and index."""
        return self.source, self.index


@dataclass(frozen=True, slots=True)
class Triple:
    """y_ws, y_wt and y_l of one prompt."""

    source_chosen: Response
    chosen: Response
    rejected: Response


@dataclass(frozen=True, slots=True)
class Pair:
    """Preferred and rejected response of one source."""

    chosen: Response
    rejected: Response

    @property
    def gap(self) -> float:
        """score(chosen) - score(rejected)."""
        return self.chosen.score - self.rejected.score


@dataclass(frozen=True, slots=True)
class Window:
    """Gaps that a pair may have, both ends included; None: no limit."""

    low: float | None = None
    high: float | None = None

    def holds(self, gap: float) -> bool:
        """Whether the gap is inside, within TOLERANCE."""
        above = self.low is None or gap >= self.low - TOLERANCE
        return above and (self.high is None or gap <= self.high + TOLERANCE)

    def __str__(self) -> str:
        low, high = ("any" if end is None else f"{end:g}" for end in (self.low, self.high))
        return f"{low} to {high}"


def candidates(responses: Sequence[Response]) -> list[Response]:
    """The responses that have a text and a finite score."""
    return [
        response
        for response in responses
        if response.text.strip() and math.isfinite(response.score)
    ]


def preferable(responses: Sequence[Response]) -> list[Response]:
    """The candidates that may be trained on as good responses."""
    return [response for response in candidates(responses) if response.preferable]


def by_source(responses: Sequence[Response]) -> list[list[Response]]:
    """The candidates of each source, sources by name."""
    own: dict[str, list[Response]] = {}
    for response in candidates(responses):
        own.setdefault(response.source, []).append(response)
    return [own[source] for source in sorted(own)]


def best(responses: Sequence[Response]) -> Response:
    """The highest score; ties go to the first source name, then to the lowest index."""
    return min(responses, key=lambda response: (-response.score, response.source, response.index))


def most_voted(responses: Sequence[Response]) -> Response:
    """Each reward votes for the response that it gave most, and most votes win; ties go to the
    highest mean z-score, then as in `best`. Rewards that lack a response do not vote.

    Our reading of ProFuser's several reward models (arXiv 2408.04998), whose rule is not known.
    """
    names = [
        name
        for name in responses[0].rewards
        if all(math.isfinite(one.rewards.get(name, math.nan)) for one in responses)
    ]
    votes = Counter(
        min(responses, key=lambda one: (-one.rewards[name], one.source, one.index)).place
        for name in names
    )
    if not votes:
        return best(responses)
    most = max(votes.values())
    winners = [one for one in responses if votes[one.place] == most]
    if len(winners) == 1:
        return winners[0]
    z_scores = {name: _z_scores([one.rewards[name] for one in responses]) for name in names}

    def mean_z(place: int) -> float:
        return math.fsum(z_scores[name][place] for name in names)

    ranked = [place for place, one in enumerate(responses) if one in winners]
    chosen = min(ranked, key=lambda at: (-mean_z(at), responses[at].source, responses[at].index))
    return responses[chosen]


def _z_scores(values: Sequence[float]) -> list[float]:
    """Values in standard deviations from their mean; zeros where all are equal."""
    mean = math.fsum(values) / len(values)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))
    return [(value - mean) / deviation if deviation else 0.0 for value in values]


def worst(responses: Sequence[Response]) -> Response:
    """The lowest score; ties as in `best`."""
    return min(responses, key=lambda response: (response.score, response.source, response.index))


def sft_response(responses: Sequence[Response]) -> Response | Drop:
    """WRPO and FuseChat-3.0: the best response over all sources."""
    found = preferable(responses)
    return best(found) if found else _nothing_preferable(responses)


def triple(
    source_responses: Sequence[Response],
    target_responses: Sequence[Response],
    *,
    min_gap: float,
    choose: Callable[[Sequence[Response]], Response] = best,
) -> Triple | Drop:
    """WRPO: y_ws best over all sources, y_wt best and y_l worst of the target.

    Args:
        choose: y_ws among the responses of sources.
        min_gap: score(y_wt) - score(y_l) must be above it; the paper states no such limit, and 0
            drops only ties.
    """
    sources, targets = preferable(source_responses), candidates(target_responses)
    if not sources:
        return _nothing_preferable(source_responses)
    if len(targets) < 2:
        return Drop("too_few_target_responses", f"{len(targets)}, two are needed")
    if not preferable(targets):
        return _nothing_preferable(targets)
    pair = Pair(best(preferable(targets)), worst(targets))
    if pair.gap <= min_gap + TOLERANCE:
        return Drop("gap_too_small", f"{pair.gap:.4f}, must be above {min_gap}")
    if pair.chosen.text == pair.rejected.text:
        return Drop("equal_responses", "best and worst target response have the same text")
    source_chosen = choose(sources)
    if source_chosen.text == pair.rejected.text:
        return Drop("equal_responses", "y_ws and y_l have the same text")
    return Triple(source_chosen, pair.chosen, pair.rejected)


def pair_of(strong: Sequence[Response], weak: Sequence[Response]) -> Pair | Drop:
    """Delta learning (arXiv 2507.06187): the first response of the stronger model over the first of
    the weaker one; scores are not read."""
    preferred = [one for one in strong if one.text.strip() and one.preferable]
    rejected = [one for one in weak if one.text.strip()]
    if not preferred or not rejected:
        missing = "weak" if preferred else "strong"
        return Drop("no_source_response", f"none of the {missing} model that can be used")
    pair = Pair(*(min(own, key=lambda one: one.index) for own in (preferred, rejected)))
    return pair if _differs(pair) else Drop("equal_responses", "both models said the same")


def accepted(
    responses: Sequence[Response], *, verified: bool, min_score: float | None, keep: int | None
) -> list[Response] | Drop:
    """Rejection sampling: the best responses that pass, texts distinct, the best first.

    Args:
        verified: only correct responses pass.
        min_score: responses below it do not pass.
        keep: most of them; None: all.
    """
    found = preferable(responses)
    if not found:
        return _nothing_preferable(responses)
    if verified:
        found = [response for response in found if response.correct]
        if not found:
            return Drop("no_correct_response")
    passing = [one for one in found if min_score is None or one.score >= min_score - TOLERANCE]
    if not passing:
        return Drop("score_too_low", f"the best is {best(found).score:.4f}, below {min_score:g}")
    by_rank = sorted(passing, key=lambda one: (-one.score, one.source, one.index))
    distinct: dict[str, Response] = {}
    for one in by_rank:
        distinct.setdefault(one.text, one)
    return list(distinct.values())[:keep]


def best_and_worst(responses: Sequence[Response]) -> list[Pair]:
    """The best and the worst response of each source, unless they are equal in score or text."""
    pairs = [
        Pair(best(preferable(own)), worst(own)) for own in by_source(responses) if preferable(own)
    ]
    return [pair for pair in pairs if pair.gap > TOLERANCE and _differs(pair)]


def same_source_pair(responses: Sequence[Response], window: Window) -> Pair | Drop:
    """FuseChat-3.0: best and worst response of one source, their gap inside a window
    (inclusive)."""
    return _pair_in(window, best_and_worst(responses))


def verified_sft_response(responses: Sequence[Response]) -> Response | Drop:
    """FuseChat-3.0, mathematics and code: the best of the correct responses of all sources."""
    found = preferable(responses)
    if not found:
        return _nothing_preferable(responses)
    correct = [response for response in found if response.correct]
    return best(correct) if correct else Drop("no_correct_response")


def right_and_wrong(responses: Sequence[Response]) -> list[Pair]:
    """The best correct and the worst incorrect response of each source that has both."""
    pairs = []
    for own in by_source(responses):
        right = [response for response in preferable(own) if response.correct]
        wrong = [response for response in own if response.correct is False]
        if right and wrong:
            pairs.append(Pair(best(right), worst(wrong)))
    return [pair for pair in pairs if _differs(pair)]


def verified_pair(responses: Sequence[Response], window: Window) -> Pair | Drop:
    """FuseChat-3.0, mathematics and code: a correct and an incorrect response of one source.

    Without limits an incorrect response may score higher. The paper states a window for
    mathematics, and none for code.
    """
    pairs = right_and_wrong(responses)
    if not pairs:
        return Drop("not_both_right_and_wrong", "no source has a correct and a wrong response")
    return _pair_in(window, pairs)


def _pair_in(window: Window, pairs: Sequence[Pair]) -> Pair | Drop:
    """Where several sources qualify the paper does not say which one is used; here it is the one
    whose chosen response scores highest."""
    inside = [pair for pair in pairs if window.holds(pair.gap)]
    if not inside:
        return Drop("no_pair_in_window", f"no source has a gap of {window}")
    chosen = best([pair.chosen for pair in inside])
    return next(pair for pair in inside if pair.chosen == chosen)


def _nothing_preferable(responses: Sequence[Response]) -> Drop:
    found = candidates(responses)
    if found:
        return Drop("no_finished_response", f"max_tokens cut all {len(found)} of them")
    return Drop("no_source_response")


def _differs(pair: Pair) -> bool:
    return pair.chosen.text != pair.rejected.text


def quantile_window(gaps: Iterable[float], low: float, high: float) -> Window:
    """From the smallest to the largest gap between two quantiles, both of them observed gaps.

    Args:
        gaps: of all pairs that a domain could give.
        low, high: shares in [0, 1]; the quantile of share q is the gap of rank q * (n - 1), rounded
            up for `low` and down for `high`, so that the window holds no more than asked for. No
            gaps, or none in between: an empty window.
    """
    ordered = sorted(gaps)
    last = len(ordered) - 1
    # Shares as they are written: 0.1 * 30 is above 3 in float64, which would be another rank.
    first, final = math.ceil(Fraction(str(low)) * last), math.floor(Fraction(str(high)) * last)
    if not 0 <= first <= final:
        return Window(math.inf, -math.inf)
    return Window(ordered[first], ordered[final])
