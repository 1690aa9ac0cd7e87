"""The process that matches a pattern of a recipe; it runs on its own, as a script.

Its arguments are the pattern, its flags, and the CPU seconds that a text may take. Each line of
standard input is JSON: a text, and whether only a match of the whole text is asked for. Each line
of standard output is a list of matches as JSON, each match a span and its named groups, or null
where the text took too long or too much memory.
"""

import json
import re
import resource
import signal
import sys

_MEMORY = 1 << 30


def stop(*_: object) -> None:
    """Ends a match: `re` looks for signals while it matches."""
    raise TimeoutError


def main(pattern: str, flags: str, seconds: str) -> None:
    """Answers until standard input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    signal.signal(signal.SIGPROF, stop)
    compiled = re.compile(pattern, int(flags))
    for line in sys.stdin:
        text, whole = json.loads(line)
        found: list[tuple[int, int, dict[str, str | None]]] | None
        signal.setitimer(signal.ITIMER_PROF, float(seconds))
        try:
            matches = [compiled.fullmatch(text)] if whole else compiled.finditer(text)
            found = [(*match.span(), match.groupdict()) for match in matches if match]
        except (TimeoutError, MemoryError):
            found = None
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        sys.stdout.write(json.dumps(found) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
