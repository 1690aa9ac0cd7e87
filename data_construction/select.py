"""Which answers become training rows: pure functions over the scored answers of one prompt.

Order decides ties: candidates are compared by score, then by source name, then by index, so the
choice depends on nothing else. Two answers with the same text are one answer here: a preference
between equal texts teaches nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Answer:
    """One scored answer of a prompt; `correct` is what a verifier says, None without one."""

    source: str
    index: int
    text: str
    score: float
    correct: bool | None = None


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a prompt gives no training row."""

    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Triple:
    """y_ws, y_wt and y_l of one prompt."""

    source_chosen: Answer
    chosen: Answer
    rejected: Answer


@dataclass(frozen=True, slots=True)
class Pair:
    """Preferred and rejected answer of one source."""

    chosen: Answer
    rejected: Answer


def best(answers: Sequence[Answer]) -> Answer:
    """The highest score; ties go to the first source name, then to the lowest index."""
    return min(answers, key=lambda answer: (-answer.score, answer.source, answer.index))


def worst(answers: Sequence[Answer]) -> Answer:
    """The lowest score; ties as in `best`."""
    return min(answers, key=lambda answer: (answer.score, answer.source, answer.index))


def sft_answer(answers: Sequence[Answer]) -> Answer | Rejection:
    """WRPO and FuseChat-3.0: the best answer over all sources."""
    return best(answers) if answers else Rejection("no_source_answer")


def triple(
    source_answers: Sequence[Answer], target_answers: Sequence[Answer], *, min_gap: float
) -> Triple | Rejection:
    """WRPO: y_ws best over all sources, y_wt best and y_l worst of the target.

    Args:
        min_gap: score(y_wt) - score(y_l) must be above it; the paper states no such limit, and 0
            drops only ties.
    """
    if not source_answers:
        return Rejection("no_source_answer")
    if len(target_answers) < 2:
        return Rejection("too_few_target_answers", f"{len(target_answers)}, two are needed")
    chosen, rejected = best(target_answers), worst(target_answers)
    problem = _gap_problem(chosen, rejected, min_gap)
    return problem or Triple(best(source_answers), chosen, rejected)


def same_source_pair(
    source_answers: Sequence[Answer], *, min_gap: float, max_gap: float | None
) -> Pair | Rejection:
    """FuseChat-3.0: best and worst answer of one source, their gap inside a window (inclusive).

    Where several sources qualify the paper does not say which one is used; here it is the one whose
    chosen answer scores highest.
    """
    pairs = []
    for source in sorted({answer.source for answer in source_answers}):
        own = [answer for answer in source_answers if answer.source == source]
        pair = Pair(best(own), worst(own))
        gap = pair.chosen.score - pair.rejected.score
        in_window = gap >= min_gap and (max_gap is None or gap <= max_gap)
        if in_window and gap > 0 and pair.chosen.text != pair.rejected.text:
            pairs.append(pair)
    if not pairs:
        window = f"{min_gap} to {'any' if max_gap is None else max_gap}"
        return Rejection("no_pair_in_window", f"no source has a gap of {window}")
    chosen = best([pair.chosen for pair in pairs])
    return next(pair for pair in pairs if pair.chosen == chosen)


def _gap_problem(chosen: Answer, rejected: Answer, min_gap: float) -> Rejection | None:
    gap = chosen.score - rejected.score
    if gap <= min_gap:
        return Rejection("gap_too_small", f"{gap:.4f}, must be above {min_gap}")
    if chosen.text == rejected.text:
        return Rejection("equal_answers", "best and worst target answer have the same text")
    return None
