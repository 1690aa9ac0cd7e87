"""What every command line shares: recipe and overrides, logging, errors as messages.

Flags choose what to run; `key=value` changes the recipe.
"""

from __future__ import annotations

import argparse
import io
import logging
import os
import select
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn, TextIO

from wrpo.display.characters import visible
from wrpo.display.redaction import redact
from wrpo.errors import RecipeError, WRPOError, refused_by_system
from wrpo.pipeline.integrity import VERIFY
from wrpo.processes import (
    TERMINATED,
    Terminated,
    end_children,
    leave,
    on_sigterm_stop,
    sigterm_came,
)
from wrpo.recipe import Recipe, load_recipe
from wrpo.recipe.shipped import find_recipe

logger = logging.getLogger(__name__)

DEFAULT_RECIPE = "recipes/llama3-8b-wrpo.yaml"
USER_ERROR = 2
UNEXPECTED = 1
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_READER_GONE = 128 + signal.SIGPIPE
_run_folders: list[Path] = []  # of the recipe of this command, for the log of an unexpected error


def stage_parser(doc: str | None, *, rounds: bool = False) -> argparse.ArgumentParser:
    """A parser with `--recipe` and `key=value`.

    Args:
        doc: the module's docstring.
        rounds: `--round` too, of a stage that every round of fusion has.
    """
    parser = _Parser(
        prog=_program(),
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--recipe",
        type=Path,
        default=Path(os.environ.get("WRPO_RECIPE", DEFAULT_RECIPE)),
        help="recipe file, or the name of one that comes with the toolkit (default: $WRPO_RECIPE, "
        "else %(default)s)",
    )
    parser.add_argument(
        "--verify",
        action="store_true",
        help="compare the digests of the parts that are read, too, and not only their rows",
    )
    if rounds:
        parser.add_argument(
            "--round", type=int, default=1, metavar="N", help="of fusion (default: %(default)s)"
        )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="changes one recipe field, e.g. sample.responses=8; the value is YAML",
    )
    return parser


class _Parser(argparse.ArgumentParser):
    """Refuses arguments without repeating a secret among them."""

    def error(self, message: str) -> NoReturn:
        super().error(visible(redact(message)))


def _program() -> str | None:
    """`python -m MODULE`, as the user typed it; argparse itself says so only from Python 3.12."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return f"python -m {spec.name.removesuffix('.__main__')}" if spec else None


def parse_stage(parser: argparse.ArgumentParser) -> tuple[argparse.Namespace, Recipe]:
    """Parses the command line (flags and key=value in any order) and loads the recipe."""
    args = parser.parse_intermixed_args()
    if args.verify:
        os.environ[VERIFY] = "1"  # for the commands that this one starts, too
    args.recipe = find_recipe(args.recipe)
    recipe = load_recipe(args.recipe, args.overrides)
    _run_folders[:] = [recipe.runs / recipe.run]
    return args, recipe.in_round(getattr(args, "round", 1))


def run_main(main: Callable[[], None]) -> None:
    """Runs a command; what the user can fix ends as one message and exit code 2.

    SIGTERM and Ctrl-C end it and all that it has started, with exit code 143 or 130.
    """
    try:
        configure_logging()
        on_sigterm_stop()
        main()
        sys.stdout.flush()
    except WRPOError as error:
        _stop(f"error: {error}", USER_ERROR)
    except KeyboardInterrupt as interrupt:
        stopped = sigterm_came() or isinstance(interrupt, Terminated)
        _stopped(TERMINATED if stopped else 130)
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _nobody_reads(sys.stdout):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            end_children()
            leave(_READER_GONE)
        message = refused_by_system(error)
        if message:
            _stop(f"error: {message}, then run the same command again", USER_ERROR)
        _unexpected(error)


def _nobody_reads(stream: TextIO) -> bool:
    """Whether the other end of a pipe, such as `head`, has seen enough and is gone."""
    poll = select.poll()
    poll.register(stream.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _unexpected(error: Exception) -> NoReturn:
    """One line about a fault of this program; its traceback goes to a file."""
    if logger.isEnabledFor(logging.DEBUG):
        raise error
    code = traceback.extract_tb(error.__traceback__)[-1]
    said = str(error).splitlines()[0][:300] if str(error) else "no message"
    where = ", ".join([_program() or "wrpo", *getattr(error, "__notes__", [])])
    log = _keep_traceback(error)
    _stop(
        f"error: unexpected {type(error).__name__} in {where}: {said} "
        f"({Path(code.filename).name}:{code.lineno}). "
        f"This is a fault of wrpo, or of a library under it: please report it with {log}, which "
        "has the traceback; finished parts are kept",
        UNEXPECTED,
    )


def _keep_traceback(error: Exception) -> str:
    text = redact("".join(traceback.format_exception(error)))
    name = f"error-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    for folder in [*_run_folders, Path(tempfile.gettempdir())]:
        with suppress(OSError):
            logs = folder / "logs" if folder in _run_folders else folder
            logs.mkdir(parents=True, exist_ok=True)
            (logs / name).write_text(text, encoding="utf-8")
            return f"the file {logs / name}"
    sys.stderr.write(text)
    return "the lines above"


def _stopped(code: int) -> NoReturn:
    end_children()
    sys.stderr.write("\nstopped; run the same command again to go on where it was\n")
    leave(code)


def configure_logging() -> None:
    """Time, level and message on stderr; rank zero only, the level from $WRPO_LOG.

    Characters that a terminal cannot show are written as escapes.

    Raises:
        RecipeError: $WRPO_LOG is no level.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            with suppress(OSError):  # an output that was exchanged for another kind of file
                stream.reconfigure(errors="backslashreplace")
    asked = os.environ.get("WRPO_LOG", "INFO")
    level = asked.upper()
    if level not in LEVELS:
        raise RecipeError(f"WRPO_LOG is {asked!r}; choose one of {', '.join(LEVELS)}")
    if os.environ.get("RANK", "0") != "0":
        level = "ERROR"
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Shown("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    logging.basicConfig(level=level, handlers=[handler])
    for noisy in ("httpx", "urllib3", "filelock", "fsspec", "datasets"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


class _Shown(logging.Formatter):
    """Log lines without secrets and control characters, whatever a library or a row says."""

    def format(self, record: logging.LogRecord) -> str:
        return visible(redact(super().format(record)))


def _stop(message: str, code: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.write(visible(redact(message)) + "\n")
    sys.stderr.flush()
    sys.exit(code)
