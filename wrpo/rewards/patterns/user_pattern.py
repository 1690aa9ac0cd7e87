"""A regular expression of a recipe, matched in a process of its own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

LIMIT_S = 5.0
"""CPU seconds that a text may take; those without the power to steal time take milliseconds."""


@dataclass(frozen=True)
class Found:
    """What a match of `re` says, as far as rewards ask."""

    text: str
    place: int
    groups: dict[str, str | None]

    def __getitem__(self, group: int | str) -> str | None:
        return self.groups[group] if isinstance(group, str) else self.text

    def start(self) -> int:
        """Where it begins."""
        return self.place

    def end(self) -> int:
        """Where it ends."""
        return self.place + len(self.text)


class UserPattern:
    """Its methods raise TimeoutError for a text that takes more than `LIMIT_S` seconds of CPU time.

    A pattern such as `(a+)+b` takes that for forty letters, and no thread can stop `re`. The
    process starts with the first text; several threads may share it.

    Raises:
        ValueError: it is no regular expression.
        RuntimeError: the process does not work.
    """

    def __init__(self, pattern: str, *, ignore_case: bool = False) -> None:
        try:
            self.groups = frozenset(re.compile(pattern).groupindex)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        self._pattern, self._flags = pattern, int(re.IGNORECASE) if ignore_case else 0
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()

    def finditer(self, text: str, /) -> list[Found]:
        """All matches."""
        return self._matches(text, whole=False)

    def fullmatch(self, text: str, /) -> Found | None:
        """The match of the whole text, or None."""
        return next(iter(self._matches(text, whole=True)), None)

    def _matches(self, text: str, *, whole: bool) -> list[Found]:
        with self._lock:
            if self._process is None:
                self._process = self._start()
            stdin, stdout = self._process.stdin, self._process.stdout
            assert stdin and stdout
            stdin.write(json.dumps([text, whole]) + "\n")
            stdin.flush()
            line = stdout.readline()
            if not line:  # it has ended
                code, self._process = self._process.wait(), None
                if code > 0:
                    raise RuntimeError(f"the process that matches patterns ended with {code}")
        found = json.loads(line or "null")
        if found is None:
            raise TimeoutError
        return [Found(text[start:end], start, groups) for start, end, groups in found]

    def _start(self) -> subprocess.Popen[str]:
        script = Path(__file__).with_name("matching.py")
        command = [sys.executable, "-I", str(script), self._pattern, str(self._flags), str(LIMIT_S)]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, encoding="ascii")

    def __del__(self) -> None:
        if process := getattr(self, "_process", None):
            process.kill()
            process.communicate()
