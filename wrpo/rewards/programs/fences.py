"""Code blocks of Markdown as CommonMark 0.31 reads them (sections 4.4 and 4.5), in linear time.

Models write fences that CommonMark does not know, or reads otherwise, so that these rules are
wider. A fence may be indented as deeply as one likes, which spares the bookkeeping of lists. A
fence that names Python may follow other text on its line, and one that ends Python may stand behind
its last line. And in a block of Python, or of no
language, a fence within a string of the program is text, and a fence that names Python starts the
next block: the one before it was left open.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

PYTHON = frozenset({"python", "py", "python2", "python3", "py3", "ipython", "ipython3", "pypy"})
"""Languages of fences that mean Python."""

_LINE_END = re.compile(r"\r\n|\r|\n")
_PREFIX = re.compile(r"(?P<quotes>(?:[ \t]*>)*)(?P<list>[ \t]*(?:(?:[-*+]|\d{1,9}[.)])[ \t]+)*)")
_FENCE = re.compile(r"(?P<fence>`{3,}(?=[^`]*\Z)|~{3,})(?P<info>.*)", re.S)
_LATE = re.compile(r"[^`]*[^`\s][ \t]*(?P<fence>`{3,})(?P<info>[ \t]*(?:python|py)3?[ \t]*)", re.I)
_LATE_CLOSER = re.compile(r"(?P<code>[^`#]*[^`#\s])[ \t]*(?P<fence>`{3,})[ \t]*")
_CLOSER = re.compile(r"(?P<indent>[ \t]*)(?P<fence>`{3,}|~{3,})[ \t]*")
_QUOTE = re.compile(r"[ \t]*>")
_LANGUAGE = re.compile(r"[{\s]*(?:lang(?:uage)?[-=])?\.?([^\s{},;:=(]*)")
_STRINGS_ASKED = 16
"""How often one text is asked whether a string is open: each time a whole block is read."""


@dataclass(frozen=True, slots=True)
class CodeBlock:
    """A code block: its language in lower case, empty where none is named, and its text."""

    language: str
    text: str

    @property
    def may_be_python(self) -> bool:
        """Whether its language is Python, or not named."""
        return self.language in PYTHON or not self.language


@dataclass(frozen=True, slots=True)
class _Fence:
    """An opening fence; `indent` in columns, `quotes` in markers of block quotes before it."""

    marks: str
    language: str
    indent: int
    quotes: int


@dataclass(slots=True)
class _Reader:
    """Reads lines one after another; `fence` is that of the block under way."""

    ends_in_string: Callable[[str], bool] | None
    asked: int = 0
    fence: _Fence | None = None
    content: list[str] = field(default_factory=list)
    blocks: list[CodeBlock] = field(default_factory=list)

    def read(self, line: str) -> None:
        if self.fence is None:
            self.fence = _opener(line)
            return
        inner = _without_quotes(line, self.fence.quotes)
        if inner is not None and _closes(inner, self.fence) and not self._in_string():
            self.end()
        elif inner is not None and (code := self._code_before_closer(inner, self.fence)):
            self.content.append(_dedent(code, self.fence.indent))
            self.end()
        elif inner is None or (self._starts_python(line) and not self._in_string()):
            self.end()
            self.fence = _opener(line)
        else:
            self.content.append(_dedent(inner, self.fence.indent))

    def end(self) -> None:
        """The block under way, if there is one, ends here."""
        if self.fence is not None:
            self.blocks.append(CodeBlock(self.fence.language, self._text()))
            self.fence, self.content = None, []

    def _text(self) -> str:
        return "".join(f"{line}\n" for line in self.content)

    def _may_be_python(self) -> bool:
        return self.fence is not None and CodeBlock(self.fence.language, "").may_be_python

    def _in_string(self, more: str = "") -> bool:
        if self.ends_in_string is None or not self._may_be_python():
            return False
        self.asked += 1
        return self.asked <= _STRINGS_ASKED and self.ends_in_string(self._text() + more)

    def _code_before_closer(self, line: str, fence: _Fence) -> str | None:
        """The last line of code where the closing fence stands behind it."""
        if self.ends_in_string is None or not self._may_be_python():
            return None
        found = _LATE_CLOSER.fullmatch(line)
        if found is None or not found["fence"].startswith(fence.marks):
            return None
        return None if self._in_string(found["code"]) else found["code"]

    def _starts_python(self, line: str) -> bool:
        if self.ends_in_string is None or not self._may_be_python():
            return False
        opener = _opener(line)
        return opener is not None and opener.language in PYTHON


def fenced_blocks(
    text: str, ends_in_string: Callable[[str], bool] | None = None
) -> list[CodeBlock]:
    """The fenced blocks of a text, in order; one that is never closed runs to the end.

    Args:
        ends_in_string: whether Python code ends within a string. Without it, a block ends where
            CommonMark says, whatever its language.
    """
    reader = _Reader(ends_in_string)
    for line in _LINE_END.split(text):
        reader.read(line)
    if reader.content and not reader.content[-1]:  # what follows the last line end is no line
        reader.content.pop()
    reader.end()
    return reader.blocks


def indented_blocks(text: str) -> list[CodeBlock]:
    """The blocks that are code because four columns or more stand before each line."""
    blocks: list[list[str]] = [[]]
    after_blank = True
    for line in _LINE_END.split(text):
        inside = bool(blocks[-1])
        if not line.strip():
            if inside:
                blocks[-1].append("")
            after_blank = True
        elif _columns(line[: len(line) - len(line.lstrip(" \t"))]) >= 4 and (inside or after_blank):
            blocks[-1].append(_dedent(line, 4))
            after_blank = False
        else:
            if inside:
                blocks.append([])
            after_blank = False
    return [CodeBlock("", "\n".join(lines).rstrip("\n") + "\n") for lines in blocks if lines]


def _opener(line: str) -> _Fence | None:
    prefix = _PREFIX.match(line)
    assert prefix  # it may be empty
    found = _FENCE.fullmatch(line, prefix.end())
    quotes = prefix["quotes"].count(">")
    indent = _columns(prefix["list"])
    if found is None:
        found = _LATE.fullmatch(line)
        quotes = indent = 0
    if found is None:
        return None
    if quotes and prefix["list"].startswith(" "):  # one space belongs to the marker of the quote
        indent -= 1
    return _Fence(found["fence"], _language(found["info"]), indent, quotes)


def _language(info: str) -> str:
    """The language that an info string names: `python title="a.py"`, `{.python}`, `add.py`."""
    found = _LANGUAGE.match(info)
    name = found[1].lower() if found else ""
    if name.endswith(".py") or re.fullmatch(r"python[23]\.\d+", name):
        return "python"
    return name


def _closes(line: str, fence: _Fence) -> bool:
    closer = _CLOSER.fullmatch(line)
    return (
        closer is not None
        and closer["fence"].startswith(fence.marks)
        and _columns(closer["indent"]) <= fence.indent + 3
    )


def _without_quotes(line: str, quotes: int) -> str | None:
    """The line without that many markers of block quotes, or None where it has fewer."""
    start = 0
    for _ in range(quotes):
        marker = _QUOTE.match(line, start)
        if marker is None:
            return None
        start = marker.end()
    if quotes and line.startswith(" ", start):
        start += 1
    return line[start:]


def _columns(space: str) -> int:
    """The width of a prefix whose tabs go to every fourth column."""
    return len(space.expandtabs(4))


def _dedent(line: str, columns: int) -> str:
    """The line without up to so many columns of the space at its start."""
    width = 0
    for at, character in enumerate(line):
        if width >= columns or character not in " \t":
            return " " * (width - columns) + line[at:]
        width += 4 - width % 4 if character == "\t" else 1
    return " " * max(0, width - columns)
