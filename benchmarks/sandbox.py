"""What the sandbox adds to the time of one program.

Usage: python -m benchmarks.sandbox

Columns: the least and the middle wall time of one program that does nothing, in milliseconds, and
the middle one over that of the interpreter alone. Arms: python (the interpreter alone), limits
(limits without isolation) and sandbox (all of it). They take turns, so that a busy machine disturbs
them alike. `ready` is the time of the probe, once a process.
"""

import argparse
import logging
import statistics
import subprocess
import time
from collections.abc import Callable

from wrpo.sandbox import Sandbox
from wrpo.sandbox.bubblewrap import interpreter

logger = logging.getLogger(__name__)


def measure(arms: dict[str, Callable[[], object]], turns: int) -> dict[str, list[float]]:
    """Wall seconds of every run, by arm."""
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(turns):
        for name, run in arms.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def main(argv: list[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--turns", type=int, default=30, help="runs of each arm")
    turns = parser.parse_args(argv).turns
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    start = time.perf_counter()
    sandbox = Sandbox()
    ready = time.perf_counter() - start
    limits = Sandbox(isolated=False)
    arms: dict[str, Callable[[], object]] = {
        "python": lambda: subprocess.run([interpreter(), "-s", "-P", "-B", "-c", "pass"]),
        "limits": lambda: limits.run("pass"),
        "sandbox": lambda: sandbox.run("pass"),
    }
    logger.info("arm      least  middle  ratio")
    alone = 0.0
    for name, seconds in measure(arms, turns).items():
        least, middle = 1000 * min(seconds), 1000 * statistics.median(seconds)
        alone = alone or middle
        logger.info("%-7s %6.0f  %6.0f  %5.2f", name, least, middle, middle / alone)
    logger.info("ready   %6.0f", 1000 * ready)


if __name__ == "__main__":
    main()
