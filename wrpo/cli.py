"""What every command line shares: recipe and overrides, logging, errors as messages.

Flags choose what to run; `key=value` changes the recipe.
"""

from __future__ import annotations

import argparse
import errno
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from wrpo.errors import WRPOError
from wrpo.processes import (
    TERMINATED,
    Terminated,
    end_children,
    leave,
    on_sigterm_stop,
    sigterm_came,
)
from wrpo.recipe import Recipe, load_recipe

DEFAULT_RECIPE = "recipes/llama3-8b-wrpo.yaml"
USER_ERROR = 2
OUT_OF_MEMORY = (
    "Lower a batch under `engine:` (per_device_batch_size, batch_tokens, max_num_seqs), which "
    "changes no result, or spread the model over more GPUs"
)


def stage_parser(doc: str | None) -> argparse.ArgumentParser:
    """A parser with `--recipe` and `key=value`; `doc` is the module's docstring."""
    parser = argparse.ArgumentParser(
        prog=_program(),
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--recipe",
        type=Path,
        default=Path(os.environ.get("WRPO_RECIPE", DEFAULT_RECIPE)),
        help="recipe file (default: $WRPO_RECIPE, else %(default)s)",
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="changes one recipe field, e.g. sample.responses=8; the value is YAML",
    )
    return parser


def _program() -> str | None:
    """`python -m MODULE`, as the user typed it; argparse itself says so only from Python 3.12."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return f"python -m {spec.name.removesuffix('.__main__')}" if spec else None


def parse_stage(parser: argparse.ArgumentParser) -> tuple[argparse.Namespace, Recipe]:
    """Parses the command line (flags and key=value in any order) and loads the recipe."""
    args = parser.parse_intermixed_args()
    return args, load_recipe(args.recipe, args.overrides)


def run_main(main: Callable[[], None]) -> None:
    """Runs a command; what the user can fix ends as one message and exit code 2.

    SIGTERM and Ctrl-C end it and all that it has started, with exit code 143 or 130.
    """
    configure_logging()
    on_sigterm_stop()
    try:
        main()
    except WRPOError as error:
        _stop(f"error: {error}", USER_ERROR)
    except KeyboardInterrupt as interrupt:
        stopped = sigterm_came() or isinstance(interrupt, Terminated)
        _stopped(TERMINATED if stopped else 130)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            raise
        what = "may not read or write" if error.errno == errno.EACCES else "cannot write"
        where = f" at {error.filename}" if error.filename else ""
        _stop(
            f"error: {what}{where}: {error.strerror}; finished parts are kept: "
            "make room or allow it, then run the same command again",
            USER_ERROR,
        )
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        where = str(error).splitlines()[0] if str(error) else "on the host"
        _stop(
            f"error: out of memory ({where}); "
            f"finished parts are kept. {OUT_OF_MEMORY}, then run the same command again",
            USER_ERROR,
        )


def _stopped(code: int) -> NoReturn:
    end_children()
    sys.stderr.write("\nstopped; run the same command again to go on where it was\n")
    leave(code)


def configure_logging() -> None:
    """Time, level and message on stderr; rank zero only, the level from $WRPO_LOG."""
    level = os.environ.get("WRPO_LOG", "INFO") if os.environ.get("RANK", "0") == "0" else "ERROR"
    logging.basicConfig(
        level=level, stream=sys.stderr, format="%(asctime)s %(message)s", datefmt="%H:%M:%S"
    )
    for noisy in ("httpx", "urllib3", "filelock", "fsspec", "datasets"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether host or device memory ran out; torch's error is recognised by name, so that torch
    need not be loaded."""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"


def _stop(message: str, code: int) -> None:
    sys.stdout.flush()
    sys.stderr.write(message + "\n")
    sys.stderr.flush()
    sys.exit(code)
