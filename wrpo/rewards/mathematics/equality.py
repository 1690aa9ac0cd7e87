"""Whether a response's final answer equals the reference answer, within a time limit."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

from wrpo.rewards.mathematics.answers import Answer, UnreadableAnswerError, read_answer
from wrpo.rewards.mathematics.clean import EITHER_LOCALE
from wrpo.rewards.mathematics.final import final_answers

Result = TypeVar("Result")

_RELATIVE_GAP = 1e-5
"""Numbers further apart than this share of the larger one are never equal."""


class Equality:
    """Compares responses with reference answers; nothing of a response is executed.

    A time limit is an alarm signal: it works in the main thread only.

    Args:
        timeout_s: for reading and comparing one response, in seconds.
    """

    def __init__(self, *, timeout_s: int = 5) -> None:
        # It logs that it has no time limit of its own.
        logging.getLogger("math_verify").setLevel(logging.CRITICAL)
        self._timeout_s = timeout_s

    def read_reference(self, text: str) -> Answer:
        """The reference answer, read; it equals itself in a box and between dollars.

        Raises:
            UnreadableAnswerError: it cannot be read, or would not equal itself.
        """
        found = self._in_time(lambda: _round_trip(text))
        if found is None:
            raise UnreadableAnswerError(f"it takes longer than {self._timeout_s} s to read")
        return found

    def is_correct(self, response: str, reference: Answer) -> bool:
        """Whether what a response ends with equals the reference answer; too slow is unequal."""
        return bool(self._in_time(lambda: _is_correct(response, reference)))

    def _in_time(self, function: Callable[[], Result]) -> Result | None:
        from math_verify.errors import TimeoutException
        from math_verify.utils import timeout

        try:
            return timeout(self._timeout_s)(function)()
        except TimeoutException:
            return None
        except (RecursionError, MemoryError, OverflowError):
            return None


def _round_trip(text: str) -> Answer:
    if text.lstrip().startswith(('["', "[{", '{"')):
        raise UnreadableAnswerError("a list or an object of JSON; one answer is expected")
    if EITHER_LOCALE.fullmatch(text):
        raise UnreadableAnswerError("one number of some countries, two of others; write 1234.5")
    reference = read_answer(text)
    for response in (rf"\boxed{{{text}}}", f"The answer is ${text.strip().strip('$')}$."):
        if not _is_correct(response, reference):
            raise UnreadableAnswerError(f"as a response, {response!r} would not equal it")
    return reference


def _is_correct(response: str, reference: Answer) -> bool:
    for text in final_answers(response, words=bool(reference.words or reference.choice)):
        try:
            if equal(reference, read_answer(text)):
                return True
        except UnreadableAnswerError:
            continue
    return False


def equal(reference: Answer, found: Answer) -> bool:
    """Whether two answers are the same; a unit may be left out, but not be another one."""
    if reference.unit_known and found.unit_known and reference.unit != found.unit:
        return False
    if reference.text == found.text:
        return True
    if reference.choice and found.choice:
        return reference.choice == found.choice
    if reference.base or found.base:
        return _equal_digits(reference, found)
    if reference.words or found.words:
        return _letters(reference) == _letters(found)
    if reference.value is None or found.value is None:
        return False
    if reference.ratio and found.ratio:
        return False
    return _equal_values(reference, found)


def _equal_digits(reference: Answer, found: Answer) -> bool:
    """The base may be left out."""
    if reference.base and found.base:
        return reference.base == found.base
    with_base, other = (reference, found) if reference.base else (found, reference)
    assert with_base.base is not None
    return with_base is reference and other.text.upper() == with_base.base[0]


def _letters(answer: Answer) -> str:
    return answer.words or answer.text.casefold()


def _equal_values(reference: Answer, found: Answer) -> bool:
    if _brackets(reference) != _brackets(found) and "" not in (
        _brackets(reference),
        _brackets(found),
    ):
        return False
    pairs = [(reference.value, found.value)]
    percent = [answer.unit == ("percent", 1) for answer in (reference, found)]
    if percent == [True, False]:
        pairs.append((_hundredth(reference.value), found.value))
    elif percent == [False, True]:
        pairs.append((reference.value, _hundredth(found.value)))
    return any(_equal_formulas(*pair) for pair in pairs if all(x is not None for x in pair))


def _hundredth(value: Any) -> Any:
    """Of a value in percent; None for a set or an equation, which is no amount."""
    from sympy import Integer

    try:
        return value / Integer(100)
    except TypeError:
        return None


def _brackets(answer: Answer) -> str:
    """Which brackets stand around a set or a tuple; empty: none."""
    return next((start for start in (r"\{", "(", "[") if answer.text.startswith(start)), "")


def _equal_formulas(reference: Any, found: Any) -> bool:
    from math_verify import verify

    reference, found = _unwrapped(reference, found)
    if reference is None:
        return False
    if _clearly_different(reference, found):
        return False
    return bool(
        verify(
            _imaginary(reference),
            _imaginary(found),
            allow_set_relation_comp=True,
            timeout_seconds=None,
        )
    )


def _unwrapped(reference: Any, found: Any) -> tuple[Any, Any]:
    """`x = 5` as 5 where the other one is no equation; None where they cannot be compared."""
    from math_verify.grader import is_equation

    if is_equation(reference) == is_equation(found):
        return reference, found
    if is_equation(reference):
        reference = _assigned(reference)
    else:
        found = _assigned(found)
    return (None, None) if reference is None or found is None else (reference, found)


def _assigned(equation: Any) -> Any:
    """What stands behind the last equals sign, where the left side is a name or a number."""
    from latex2sympy2_extended.logic import And
    from sympy import Add

    parts = equation._unsorted_args if isinstance(equation, And) else (equation,)
    left = parts[0].lhs
    if isinstance(left, Add) and left.free_symbols:
        return None
    return parts[-1].rhs


def _clearly_different(reference: Any, found: Any) -> bool:
    """Whether a cheap look settles that two formulas differ, before they are compared in full."""
    from math_verify.grader import is_relation
    from sympy import Expr, FiniteSet, Tuple

    if isinstance(reference, Expr) and isinstance(found, Expr):
        return _far_apart(reference, found)
    if is_relation(reference) and is_relation(found):
        return bool(reference.free_symbols != found.free_symbols)
    lists = (FiniteSet, Tuple)
    if isinstance(reference, lists) and isinstance(found, lists):
        return len(reference.args) != len(found.args)
    if isinstance(reference, Expr) or isinstance(found, Expr):
        return not isinstance(found if isinstance(reference, Expr) else reference, FiniteSet)
    return False


def _far_apart(reference: Any, found: Any) -> bool:
    """Whether two expressions have different values at one point; False where they have none."""
    from sympy import N, Rational

    symbols = sorted(reference.free_symbols | found.free_symbols, key=str)
    point = {symbol: Rational(17 + 4 * k, 13 + k) for k, symbol in enumerate(symbols)}
    try:
        one, other = (N(_imaginary(value).subs(point), 15) for value in (reference, found))
    except (TypeError, ValueError, AttributeError):
        return False
    if not (one.is_number and other.is_number and one.is_finite and other.is_finite):
        return bool(one.is_infinite and other.is_infinite and one != other)
    return bool(abs(one - other) > _RELATIVE_GAP * max(abs(one), abs(other)))


def _imaginary(value: Any) -> Any:
    """With the letter i as the imaginary unit."""
    from sympy import Expr, I, Symbol

    if not isinstance(value, Expr):
        return value
    letter = Symbol("i", real=True)
    return value.subs(letter, I) if letter in value.free_symbols else value
