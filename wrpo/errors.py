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
where its traceback is, and exit code 1.
"""


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
