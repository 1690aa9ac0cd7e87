"""Every error a user can cause, as one small tree.

WRPOError
├── RecipeError        (ValueError)         a recipe or a command line says something wrong
├── DataError          (ValueError)         rows, columns or files hold something wrong
├── MissingInputError  (FileNotFoundError)  a stage needs what another stage has not made yet
├── StageError         (RuntimeError)       a stage folder belongs to other settings, or is in use
├── TemplateError      (ValueError)         a chat template cannot render what is asked of it
├── ModelError         (RuntimeError)       a model cannot be loaded or cannot do what is asked
└── SandboxError       (RuntimeError)       this machine cannot run untrusted programs safely

Raise one of these for anything the user can fix; its message says what is wrong, where, the value
seen, and what to do next. Each also inherits the standard error it stands for. Command lines turn
them into one message on stderr and exit code 2; every other exception is a bug: one line that says
where its traceback is, and exit code 1. What the operating system refuses comes as it is raised:
`refused_by_system` has the message.
"""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

_OUT_OF_MEMORY = (
    "Lower a batch under `engine:` (per_device_batch_size, batch_tokens, max_num_seqs), which "
    "changes no result, or spread the model over more GPUs"
)
_ROOM = "finished parts are kept: make room"
_PERMISSION = "finished parts are kept: allow it"
_WAYS_OUT = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EROFS: "choose a place that can be written (runs=FOLDER)",
    errno.EACCES: _PERMISSION,
    errno.EPERM: _PERMISSION,
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOTDIR: "a part of this path is a file; choose another place",
    errno.EISDIR: "it is a folder where a file is needed; name a file, or move the folder away",
    errno.EEXIST: "it is no folder, or a link that leads nowhere; move it away",
    errno.ELOOP: "it is a link that leads to itself; remove it",
    errno.EMFILE: "allow more open files (ulimit -n)",
    errno.ENFILE: "this machine has too many open files; close some",
    errno.EFBIG: "files are limited to this size (ulimit -f); allow larger ones",
    errno.ENOLCK: "this file system has no locks; choose another place (runs=FOLDER)",
    errno.EOPNOTSUPP: "this file system cannot do it; choose another place (runs=FOLDER)",
    errno.EIO: "the disk does not read or write; check it",
    errno.ESTALE: "the network disk has changed under this command",
}
_IN_RUST = re.compile(r"\(os error (\d+)\)")
_TORCH_CANNOT_WRITE = re.compile(
    r"inline_container\.cc.* unexpected pos|PytorchStreamWriter failed"
)
_DISK_IS_FULL = os.strerror(errno.ENOSPC)


class WRPOError(Exception):
    """Base of every error a user can cause."""


class RecipeError(WRPOError, ValueError):
    """A recipe file, an override or a flag is wrong."""


class DataError(WRPOError, ValueError):
    """A table, a row or a column is wrong."""


class MissingInputError(WRPOError, FileNotFoundError):
    """The input of a stage is not there; the message names the command that makes it."""


class StageError(WRPOError, RuntimeError):
    """A stage folder was made with other settings or is being written by another process."""


class TemplateError(WRPOError, ValueError):
    """A chat template is missing or cannot render a conversation."""


class ModelError(WRPOError, RuntimeError):
    """A model cannot be loaded, or lacks what the stage needs."""


class SandboxError(WRPOError, RuntimeError):
    """The sandbox cannot be built, or does not hold, on this machine."""


def loading_failures() -> tuple[type[Exception], ...]:
    """What libraries raise where the files of a model are missing, damaged or of another kind."""
    from safetensors import SafetensorError

    return (OSError, ValueError, RuntimeError, ImportError, KeyError, TypeError, SafetensorError)


def raise_if_of_system(error: Exception, path: Path) -> None:
    """Raises again what the operating system refused: `path` is then out of reach, not damaged.

    Libraries raise an OSError without a number for damaged files. One that is not there is left to
    the caller.
    """
    if isinstance(error, OSError) and error.errno not in (None, errno.ENOENT):
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error


def refused_by_system(error: Exception) -> str | None:
    """What the user can do about an error of the operating system, one sentence; None for others.

    Libraries in other languages report such an error as text.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        # torch's error is recognised by name, so that torch need not be loaded.
        where = str(error).splitlines()[0] if str(error) else "on the host"
        return f"out of memory ({where}); finished parts are kept. {_OUT_OF_MEMORY}"
    if isinstance(error, OSError) and error.errno in _WAYS_OUT:
        return _with_way_out(error)
    for line in str(error).splitlines():
        number = _IN_RUST.search(line)
        if number and int(number[1]) in _WAYS_OUT:
            return f"{line.strip()}; {_WAYS_OUT[int(number[1])]}"
        if _TORCH_CANNOT_WRITE.search(line):
            return f"a file cannot be written, as on a full disk ({line.strip()}); {_ROOM}"
        if _DISK_IS_FULL in line:
            return f"{line.strip()}; {_ROOM}"
    return None


def _with_way_out(error: OSError) -> str:
    where = f" {error.filename}" if error.filename else ""
    way_out = _WAYS_OUT[error.errno or 0]
    if error.errno == errno.ENOTDIR and error.filename:
        files = [path for path in Path(os.fsdecode(error.filename)).parents if path.is_file()]
        if files:
            way_out = f"{files[0]} is a file, and a folder is needed; choose another place"
    return f"cannot use{where}: {error.strerror}; {way_out}"
