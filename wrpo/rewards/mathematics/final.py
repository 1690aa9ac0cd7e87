"""Where the final answer of a response is: its last box, else what it says last."""

from __future__ import annotations

import re
from collections.abc import Iterator

_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_MATH = re.compile(
    r"\$\$(.{1,1000}?)\$\$|\\\[(.{1,1000}?)\\\]|\\\((.{1,1000}?)\\\)"
    r"|(?<![\\\d])\$((?:\\.|[^$\n\\]){1,1000}?)\$",
    re.S,
)
_PROSE = re.compile(r"(?<![A-Za-z\\{])[a-z]{4,}")
_TOKEN = (
    r"(?:\\(?:begin|end)\{[a-z]+\}|\\\\|\\(?:text|mathrm|mbox)\s*\{[^{}]*\}|\\[A-Za-z]+"
    r"|\\[,!;:%${}|]"
    r"|\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\}"
    r"|\d+(?:[.,]\d+)*|\.\d+|[-+*/^_=<>()|!\[\],:%&°π√∞±×÷·≤≥≠∪∩−²³½]"
    r"|(?<![A-Za-z\\])[A-Za-z](?![A-Za-z]))"
)
_RUN = re.compile(rf"{_TOKEN}(?: ?{_TOKEN})*")
_ANCHOR = re.compile(r"(?i:answers?|result)\s{0,20}(?:\*\*)?\s{0,20}(?:is|are|:|=)|####")
_PERCENT = re.compile(r"\s*(?:\\?%|percent\b)")
_PERCENT_WORD = re.compile(r"\s*percent\b")
_JOINT = re.compile(r"\s*(?:,(?:\s*(?:and|or))?|and|or)\s*")
_BEFORE, _AFTER = ",:;=)*/<>]& \n\t\r", "-,:;=+*/<>([& \n\t\r"
_TAIL = re.compile(r"(?:\b(?:is|are|be)\b|:|=|####)\s*([^:=\n]*)$")


def last_boxed(text: str) -> str | None:
    """What stands in the last \\boxed{...}, its braces balanced; None where there is none."""
    boxes = list(_BOX.finditer(text))
    if not boxes:
        return None
    start, depth = boxes[-1].end(), 1
    for place in range(start, len(text)):
        if text[place] in "{}" and text[place - 1] != "\\":
            depth += 1 if text[place] == "{" else -1
        if depth == 0:
            return text[start:place]
    return None


def final_answers(response: str, *, words: bool) -> Iterator[str]:
    """What a response may have meant as its answer: the last box alone, else its last formula.

    Args:
        words: also the words that the last line ends with.
    """
    box = last_boxed(response)
    if box is not None or _BOX.search(response):
        if box is not None:
            yield box
        return
    formula = _last_formula(response)
    if formula:
        yield formula
    if words and response.strip():
        line = response.strip().splitlines()[-1].strip()
        yield line
        tail = _TAIL.search(line)
        if tail:
            yield tail[1]


def _last_formula(response: str) -> str | None:
    """The first formula after "the answer is", else the last one; neighbours count as a list."""
    spans = list(_spans(response))
    anchors = list(_ANCHOR.finditer(response))
    if anchors:
        after = [span for span in spans if span[0] >= anchors[-1].end()]
        if after:
            return _joined(response, after)
    if not spans:
        return None
    last = len(spans) - 1
    while last and _JOINT.fullmatch(response[spans[last - 1][1] : spans[last][0]]):
        last -= 1
    return _joined(response, spans[last:])


def _joined(response: str, spans: list[tuple[int, int, str]]) -> str:
    found = [spans[0]]
    for span in spans[1:]:
        if not _JOINT.fullmatch(response[found[-1][1] : span[0]]):
            break
        found.append(span)
    return ", ".join(text for _, _, text in found)


def _spans(response: str) -> Iterator[tuple[int, int, str]]:
    """Formulas by place: between delimiters, or bare."""
    place = 0
    for found in _MATH.finditer(response):
        inner = next(group for group in found.groups() if group is not None)
        if found[4] is not None and _PROSE.search(re.sub(r"\\text\s*\{[^{}]*\}", "", inner)):
            continue  # two prices
        yield from _runs(response, place, found.start())
        percent = _PERCENT.match(response, found.end())
        yield found.start(), found.end(), inner + (r"\%" if percent else "")
        place = found.end()
    yield from _runs(response, place, len(response))


def _runs(response: str, start: int, end: int) -> Iterator[tuple[int, int, str]]:
    """Formulas without delimiters: runs of numbers, signs, commands and single letters."""
    for found in _RUN.finditer(response, start, end):
        text = re.sub(r"^(?:[aAI] )+", "", found[0].strip())
        text = text.lstrip(_BEFORE).rstrip(_AFTER)
        while text.count(")") > text.count("(") and text.endswith(")"):
            text = text[:-1].rstrip(" ,")
        while text.count("(") > text.count(")") and text.startswith("("):
            text = text[1:].lstrip()
        if text.startswith(("^", "_", "!")) or not re.search(r"\d|\\[a-z]|[A-Za-zπ∞√½]", text):
            continue
        if text in ("a", "A", "I", r"\n", r"\text"):
            continue
        percent = _PERCENT_WORD.match(response, found.end())
        yield found.start(), found.end(), text + (r"\%" if percent else "")
