"""Which text of a response is the program.

1. Where all the text is Python code, it is the program: fences in it belong to its strings.
2. Else the program is among the fenced blocks in Python or in no named language; where nothing is
   fenced, between the last tags [PYTHON] or <code>, or among the indented blocks. Blocks in other
   languages (shell, output, text) never count.
3. Of the names that the tests use, each is taken from the last block that defines it. A function
   without a body counts as no definition where there is another, and an import as none where a
   block defines the name. So a draft before the final program does not count, nor does an example
   of its use behind it.
4. Tests of inputs and outputs use no names. The program is the last block that calls something and
   reads input; without such a block the last one that calls something, with what it needs.
5. A block that uses names which it does not define gets, before it, the nearest earlier block that
   defines them, else the next later one. All other blocks are left out.
6. Where no block gives what is asked for, the last one that is Python code is the program.
"""

from __future__ import annotations

import re
import textwrap
from bisect import bisect_left
from collections.abc import Set

from wrpo.rewards.programs.fences import CodeBlock, fenced_blocks, indented_blocks
from wrpo.rewards.programs.names import PythonCode, ends_in_string, read_code

_READS_INPUT = re.compile(r"\binput\s*\(|\bstdin\b|\bopen\s*\(\s*0\b|\bfileinput\b")
_FUTURE = re.compile(r"^from __future__ import [\w, ]+$", re.M)
_TILDES = re.compile(r"^[ \t]*~~~+", re.M)
_TAGS = (("[PYTHON]", "[/PYTHON]"), ("<code>", "</code>"))
_TRIED = 8
"""Of so many of the last blocks that call something, we ask whether what they need reads input."""


def extract_program(response: str, wanted: Set[str] = frozenset()) -> str:
    """The program of a response by the rules of this module; empty where it has none.

    Args:
        wanted: names that the tests use; none: the tests give inputs and compare outputs.
    """
    whole = _read(response)
    if whole and _read(
        _TILDES.sub("```", response)
    ):  # outside strings, Python inverts what follows ~
        return whole.text
    fenced = fenced_blocks(response, ends_in_string)
    blocks = fenced or _tagged(response) or indented_blocks(response)
    texts = [block.text for block in blocks if block.may_be_python and block.text.strip()]
    codes = [code for text in texts if (code := _read(text))]
    if not codes:
        return texts[-1] if texts else "" if fenced else response
    parts = _Parts(codes)
    chosen = parts.definers(wanted) if wanted else parts.acting()
    return _joined([codes[at].text for at in sorted(parts.complete(chosen or {len(codes) - 1}))])


def _tagged(response: str) -> list[CodeBlock]:
    """What stands between the last tags that prompts of code models ask for."""
    for opening, closing in _TAGS:
        _, tag, after = response.rpartition(opening)
        if tag:
            return [CodeBlock("python", after.partition(closing)[0])]
    return []


def _read(text: str) -> PythonCode | None:
    """Code as it is, or else without the space before it."""
    return read_code(text) or read_code(text.strip()) or read_code(textwrap.dedent(text))


def _joined(texts: list[str]) -> str:
    """One program; imports from the future, which Python wants first, come first."""
    if len(texts) == 1:
        return texts[0]
    text = "\n".join(texts)
    first = [f"{found.strip()}\n" for found in _FUTURE.findall(text)]
    return "".join([*first, _FUTURE.sub("", text)])


class _Parts:
    """Blocks of code, by the names that they define."""

    def __init__(self, codes: list[PythonCode]) -> None:
        self._codes = codes
        self._kinds: list[dict[str, list[int]]] = [{}, {}, {}]
        for at, code in enumerate(codes):
            names = (code.defines - code.sketches, code.sketches, code.imports)
            for kind, found in zip(self._kinds, names, strict=True):
                for name in found:
                    kind.setdefault(name, []).append(at)

    def definers(self, wanted: Set[str]) -> set[int]:
        """The blocks from which the wanted names are taken."""
        found = (self._definer(name, len(self._codes)) for name in wanted)
        return {at for at in found if at is not None}

    def _definer(self, name: str, before: int) -> int | None:
        """The nearest block before one that defines a name, else the next one behind it."""
        for kind in self._kinds:
            places = kind.get(name, [])
            if places:
                nearest = bisect_left(places, before) - 1
                others = [at for at in places[max(0, nearest) : nearest + 3] if at != before]
                if others:
                    return others[0]
        return None

    def acting(self) -> set[int]:
        """The last block that calls something and reads input, alone or with what it needs."""
        reads = [_READS_INPUT.search(code.text) is not None for code in self._codes]
        acting = [at for at in range(len(reads) - 1, -1, -1) if self._codes[at].calls]
        for at in acting:
            if reads[at]:
                return {at}
        for at in acting[:_TRIED]:
            if any(reads[part] for part in self.complete({at})):
                return {at}
        return set(acting[:1])

    def complete(self, chosen: Set[int]) -> set[int]:
        """The chosen blocks with those that define what they use."""
        complete, to_read = set(chosen), sorted(chosen)
        given: set[str] = set()
        for at in chosen:
            given |= self._codes[at].defines | self._codes[at].imports
        while to_read:
            at = to_read.pop()
            for name in sorted(self._codes[at].needs - given):
                definer = self._definer(name, at)
                if definer is not None and definer not in complete:
                    complete.add(definer)
                    to_read.append(definer)
                    given |= self._codes[definer].defines | self._codes[definer].imports
        return complete
