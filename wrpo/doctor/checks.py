"""What a check says: ok, warning or problem, about what, and what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from wrpo.errors import WRPOError, refused_by_system
from wrpo.recipe import Recipe

Level = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """One line of the doctor; `remedy` says what to do."""

    level: Level
    subject: str
    message: str
    remedy: str = ""


@dataclass(frozen=True)
class CheckContext:
    """What is examined.

    Attributes:
        offline: ask nothing of the network.
        hub: whether the model hub may be asked and answers.
    """

    recipe: Recipe
    offline: bool = False
    hub: bool = False


Check = Callable[[CheckContext], Iterable[Finding]]


def run_checks(checks: Iterable[Check], context: CheckContext) -> Iterator[Finding]:
    """The findings of all checks; one that fails is a problem of its own and hides no other."""
    for check in checks:
        subject = check.__name__.strip("_").replace("_", " ")
        try:
            yield from check(context)
        except WRPOError as error:
            yield Finding("problem", subject, str(error))
        except Exception as error:
            refused = refused_by_system(error)
            if refused:
                yield Finding("problem", subject, refused)
                continue
            message = f"the check itself failed: {type(error).__name__}: {error}"
            yield Finding("problem", subject, message, "please report this")


def finding_text(finding: Finding) -> str:
    """One line, and one more for what to do."""
    line = f"{finding.level:8} {finding.subject}: {finding.message}"
    return f"{line}\n{'':9}-> {finding.remedy}" if finding.remedy else line
