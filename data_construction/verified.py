"""FuseChat-3.0's choice where answers can be checked (mathematics, code): pure functions.

What is right comes from a verifier, what is good from the score; ties as in `select.best`.
"""

from __future__ import annotations

from collections.abc import Sequence

from data_construction.select import Answer, Pair, Rejection, best, worst


def verified_sft_answer(answers: Sequence[Answer]) -> Answer | Rejection:
    """The best answer among the correct ones of all sources."""
    correct = [answer for answer in answers if answer.correct]
    if not answers:
        return Rejection("no_source_answer")
    return best(correct) if correct else Rejection("no_correct_answer")


def verified_pair(
    answers: Sequence[Answer], *, min_gap: float | None = None, max_gap: float | None = None
) -> Pair | Rejection:
    """Best correct and worst incorrect answer of one source.

    Where several sources have such a pair, it is the one whose chosen answer scores highest.

    Args:
        min_gap, max_gap: window of score(chosen) - score(rejected), inclusive; None: no limit, so
            that an incorrect answer may score higher. The paper states a window for mathematics,
            and none for code.
    """
    pairs = []
    for source in sorted({answer.source for answer in answers}):
        correct = [a for a in answers if a.source == source and a.correct]
        incorrect = [a for a in answers if a.source == source and a.correct is False]
        if correct and incorrect:
            pairs.append(Pair(best(correct), worst(incorrect)))
    if not pairs:
        return Rejection("not_both_right_and_wrong", "no source has a correct and a wrong answer")
    inside = [pair for pair in pairs if _in_window(pair, min_gap, max_gap)]
    if not inside:
        return Rejection("no_pair_in_window", f"no source has a gap of {min_gap} to {max_gap}")
    chosen = best([pair.chosen for pair in inside])
    return next(pair for pair in inside if pair.chosen == chosen)


def _in_window(pair: Pair, min_gap: float | None, max_gap: float | None) -> bool:
    gap = pair.chosen.score - pair.rejected.score
    above = min_gap is None or gap >= min_gap
    below = max_gap is None or gap <= max_gap
    return above and below and pair.chosen.text != pair.rejected.text
