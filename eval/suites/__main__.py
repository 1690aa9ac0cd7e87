"""Lists the suites of benchmarks, or shows one as a table.

Run     python -m eval.suites [list]
        python -m eval.suites show NAME_OR_FILE
"""

from __future__ import annotations

import argparse
import sys

from eval.suites.table import suite_lines, suites_lines
from wrpo.cli import run_main
from wrpo.recipe.suite import load_suite, shipped_suites


def main() -> None:
    """Prints what was asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m eval.suites",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser("list", help="all suites, one line each (default)")
    show = commands.add_parser("show", help="one suite as a table")
    show.add_argument("name", metavar="NAME_OR_FILE")
    args = parser.parse_args()
    if args.command == "show":
        lines = suite_lines(load_suite(args.name))
    else:
        lines = suites_lines([load_suite(name) for name in shipped_suites()])
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    run_main(main)
