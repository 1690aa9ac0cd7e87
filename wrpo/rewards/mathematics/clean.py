"""One spelling for LaTeX that means the same: delimiters, fractions, spaces, numbers, units."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

_UNICODE = {
    **{"−": "-", "–": "-", "×": r"\times ", "·": r"\cdot ", "÷": r"\div ", "±": r"\pm "},
    **{"π": r"\pi ", "∞": r"\infty ", "°": r"^\circ ", "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne "},
    **{"∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "²": "^2", "³": "^3", "½": r"\frac{1}{2}"},
    **{"⟨": "(", "⟩": ")", "∅": r"\emptyset ", "θ": r"\theta ", "\u00a0": " "},
}
_BRACED = r"\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}"
_DOLLAR = re.compile(r"(?<!\\)\$")
_OUTER = (
    re.compile(r"\\\((.*)\\\)", re.S),
    re.compile(r"\\\[(.*)\\\]", re.S),
    re.compile(r"\*\*(.*)\*\*", re.S),
    re.compile(rf"\\(?:boxed|fbox)\s*{_BRACED}", re.S),
)
_REPLACEMENTS = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\(?:mbox|textbf|textit|textrm|textnormal|textsc|texttt|operatorname)\s*\{", r"\\text{"),
        (r"\\(?:mathrm|mathbf|mathit|mathsf|boldsymbol|bm)\s*\{([A-Za-z])\}", r"\1"),
        (r"\\(?:mathrm|mathbf|mathit|mathsf|rm|bf)\s*\{", r"\\text{"),
        (r"\\text\s*\{\s*\\text\s*\{([^{}]*)\}\s*\}", r"\\text{\1}"),
        (r"(?<=\d),\\!\s*(?=\d)", ","),
        (r"(?<=\d)\{,\}(?=\d)", ","),
        (r"\\!", ""),
        (r"(?<!\\)\\[,;:> ]", " "),
        (r"\\(?:quad|qquad|displaystyle|limits)\b|~", " "),
        (r"\\[dtc]frac\b", r"\\frac"),
        (r"\\frac\s*(\\pi|\d)\s*(\d)", r"\\frac{\1}{\2}"),
        (r"\\log_\s*(\d)(?=\s)", r"\\log_{\1}"),
        (r"\\(?:left|right|[bB]igg?[lr]?)(?![A-Za-z])\s*\.?", ""),
        (r"\\(?:langle|lparen)\b", "("),
        (r"\\(?:rangle|rparen)\b", ")"),
        (r"\\lbrack\b", "["),
        (r"\\rbrack\b", "]"),
        (r"\\lbrace\b", r"\\{"),
        (r"\\rbrace\b", r"\\}"),
        (r"\\varnothing\b", r"\\emptyset"),
        (r"\\(?:leq|leqslant)\b", r"\\le"),
        (r"\\(?:geq|geqslant)\b", r"\\ge"),
        (r"\\neq\b", r"\\ne"),
        (r"\\degree\b|\^\s*\{\s*\\circ\s*\}", r"^\\circ"),
        (r"\\text\s*\{\s*,?\s*(?:and|or)\s*,?\s*\}|,?(?<![A-Za-z\\])(?:and|or)\b,?", ","),
        (r",\s*,", ","),
        (r"_\{\s*\\(max|min|sup|inf)\s*\}|_\\(max|min|sup|inf)\b", r"_{\1\2}"),
        (r"(?<=\d)\.(?![\d.\\])", ""),
        (r"^\\approx\b", ""),
        (r"√\(([^()]*)\)|√\s*(\d+|[a-z])", r"\\sqrt{\1\2}"),
        (r"\bsqrt\(([^()]*)\)", r"\\sqrt{\1}"),
        (r"\bpi\b", r"\\pi"),
        (r"(?<![\d.,/}])(\d+)\s+(\d+)\s*/\s*(\d+)(?![\d.])", r"\1\\frac{\2}{\3}"),
        (r"(?<![\w.])(\d+(?:\.\d+)?)[eE]([-+]?\d+)(?!\w)", r"\1 \\times 10^{\2}"),
        (r"\\\{\s*[a-z]\s*(?:\||\\mid\b|:)([^{}|]*)\\\}$", r"\1"),
    )
]
_REPEATING = re.compile(r"(\d*)\.(\d*)\\(?:overline|bar|dot)\s*(?:\{(\d+)\}|(\d))")
_SPACED_THOUSANDS = re.compile(r"-?\d{1,3}(?: \d{3})+(?:\.\d+)?")
LONGEST_ANSWER = 1000
"""Characters of an answer; what reads one takes the square of its length."""
_COMMA_THOUSANDS = re.compile(r"-?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_QUOTED_THOUSANDS = re.compile(r"-?\d{1,3}(?:['\u2019]\d{3})+(?:\.\d+)?")
_DOTTED_THOUSANDS = re.compile(r"-?\d{1,3}(?:\.\d{3}){2,}(?:,\d+)?")
EITHER_LOCALE = re.compile(r"[\s\\$€£¥]*-?\d{1,3}\.\d{3},\d+[\s\\$€£¥]*")
"""A whole answer: one number where points group thousands, two where commas separate numbers."""


def clean(text: str) -> str:
    """The LaTeX of an answer in one spelling: no delimiters, no layout, plain command names."""
    text = _bare(text)
    for character, command in _UNICODE.items():
        text = text.replace(character, command)
    for pattern, replacement in _REPLACEMENTS:
        text = pattern.sub(replacement, text)
    text = _REPEATING.sub(_repeating, text)
    text = _bare(text)
    if _SPACED_THOUSANDS.fullmatch(text) or _COMMA_THOUSANDS.fullmatch(text):
        text = text.replace(" ", "").replace(",", "")
    elif _QUOTED_THOUSANDS.fullmatch(text):
        text = re.sub(r"['\u2019]", "", text)
    elif _DOTTED_THOUSANDS.fullmatch(text):
        text = text.replace(".", "").replace(",", ".")
    return re.sub(r"\s+", " ", text)


def same_text(one: str, other: str) -> bool:
    """Whether two answers are written alike, but for layout; empty ones are not, nor long ones."""
    if max(len(one), len(other)) > LONGEST_ANSWER:
        return False
    texts = ["".join(clean(text).split()) for text in (one, other)]
    return texts[0] == texts[1] != ""


def _bare(text: str) -> str:
    """Without what stands around the whole text: delimiters, boxes, points and commas."""
    if len(_DOLLAR.findall(text)) % 2 == 0:
        text = _DOLLAR.sub(" ", text)
    before = None
    while before != text:
        before = text
        text = text.strip().rstrip(".,;")
        for pattern in _OUTER:
            found = pattern.fullmatch(text)
            if found:
                text = found[1]
    return text


def _repeating(found: re.Match[str]) -> str:
    whole, start, cycle = found[1] or "0", found[2], found[3] or found[4]
    value = Fraction(int(whole + start + cycle) - int(whole + start)) / (
        10 ** (len(start) + len(cycle)) - 10 ** len(start)
    )
    return rf"\frac{{{value.numerator}}}{{{value.denominator}}}"


class Quantity(NamedTuple):
    """A value, and what it counts.

    Attributes:
        unit: its name and power, as ("cm", 2); None: no unit.
        known: whether the unit is of the table below, so that another one contradicts it.
    """

    value: str
    unit: tuple[str, int] | None = None
    known: bool = False


_NAMES = {
    "cm": "cm centimeter centimetre",
    "mm": "mm millimeter millimetre",
    "m": "m meter metre",
    "km": "km kilometer kilometre",
    "in": "in inch inche",
    "ft": "ft foot feet",
    "yd": "yd yard",
    "mi": "mi mile",
    "g": "g gram",
    "kg": "kg kilogram",
    "mg": "mg milligram",
    "lb": "lb pound",
    "oz": "oz ounce",
    "l": "l liter litre",
    "ml": "ml milliliter millilitre",
    "s": "s sec second",
    "min": "min minute",
    "h": "h hr hour",
    "day": "day",
    "week": "week",
    "month": "month",
    "year": "year yr",
    "m/s": "m/s mps",
    "km/h": "km/h kph",
    "mph": "mph",
    "j": "j joule",
    "n": "n newton",
    "w": "w watt",
    "v": "v volt",
    "pa": "pa pascal",
    "hz": "hz hertz",
    "dollar": "dollar usd",
    "cent": "cent",
    "euro": "euro",
    "degree": "degree deg",
    "radian": "radian rad",
    "percent": "percent percentage pct",
    "point": "point",
    "unit": "unit",
}
_UNITS = {alias: name for name, aliases in _NAMES.items() for alias in aliases.split()}
_LONG = "|".join(sorted((a for a in _UNITS if len(a) > 1), key=len, reverse=True))
_TIGHT = "|".join(a for a in _UNITS if len(a) > 3 or a in ("cm", "mm", "km", "kg", "mph"))
_POWER = r"(?:\s*\^\s*\{?\s*(\d)\s*\}?)?"
_PLAIN_NUMBER = re.compile(r"[-\d.,/\s]+|[-\d\s]*\\frac\{\d+\}\{\d+\}")
_TEXT_UNIT = re.compile(rf"(.*[\d}}\)!]|.*\\pi)\s*\\text\s*\{{([^{{}}]*)\}}{_POWER}", re.S)
_WORD_UNIT = re.compile(
    r"(.*[\d}\)]|.*\\pi)"
    rf"(?:\s+((?:(?:square|sq|cubic|cu)\.? )?(?:{_LONG})s?)|((?:{_TIGHT})s?)){_POWER}",
    re.S,
)
_LETTER_UNIT = re.compile(rf"(.*\d)\s+([mgslhJNWVA]){_POWER}", re.S)
_DEGREES = re.compile(r"\s*\^\\circ\s*(?:\\text\s*\{\s*([CF])\s*\}|([CF])\b)?")
_ANGLE = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)\b.*\^\\circ")
_NUMBER_DEGREES = re.compile(r"(\d+(?:\.\d+)?)\s*\^\\circ")
_CURRENCY = re.compile(r"\\\$|\\text\{\\?\$\}|(?<!\\)\$|€|£")
_NO_UNIT = re.compile(r"\b(?:if|for|when|where|and|or|is|are|otherwise)\b")


def split_unit(text: str) -> Quantity:
    """Takes the unit off a clean text; one without stays as it is."""
    if _CURRENCY.search(text):
        rest = _CURRENCY.sub("", text).strip()
        return Quantity(split_unit(rest).value, ("dollar", 1), known=True)
    if re.search(r"\\?%", text):
        return Quantity(re.sub(r"\s*\\?%", "", text).strip(), ("percent", 1), known=True)
    if _ANGLE.search(text):
        return Quantity(_NUMBER_DEGREES.sub(r"(\1 \\cdot \\frac{\\pi}{180})", text))
    if r"^\circ" in text:
        [scale, *_] = [a or b for a, b in _DEGREES.findall(text)]
        return Quantity(_DEGREES.sub("", text).strip(), (f"degree{scale}", 1), known=True)
    for pattern in (_TEXT_UNIT, _WORD_UNIT, _LETTER_UNIT):
        found = pattern.fullmatch(text)
        if found is None:
            continue
        value, *named, power = found.groups()
        words = next((name for name in named if name), "")
        if _NO_UNIT.search(words):
            continue
        if pattern is _LETTER_UNIT and not _PLAIN_NUMBER.fullmatch(value):
            continue
        name, exponent, known = _unit(words, power)
        return Quantity(value.strip(), (name, exponent), known)
    return Quantity(text)


def _unit(words: str, power: str | None) -> tuple[str, int, bool]:
    """The name of a unit, its power, and whether the table has it."""
    words = words.strip().strip(".").casefold()
    number = int(power) if power else 1
    for prefix, value in (("square ", 2), ("sq ", 2), ("sq. ", 2), ("cubic ", 3), ("cu ", 3)):
        if words.startswith(prefix):
            words, number = words.removeprefix(prefix).strip(), value
    inner = re.fullmatch(r"(.*?)\s*\^\s*(\d)", words)
    if inner:
        words, number = inner[1], int(inner[2])
    singular = next((w for w in (words, words.removesuffix("s")) if w in _UNITS), None)
    return (_UNITS[singular], number, True) if singular else (words, number, False)
