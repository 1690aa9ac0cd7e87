"""What every part of the recipe is made of, and how a kind of thing is found by its name.

A package of kinds (`wrpo.objectives`, `wrpo.rewards`, `wrpo.engines`, `wrpo.benchmarks`) has one
file per kind with its settings and its behaviour. A new file there is a new kind: nothing lists
them.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pkgutil import iter_modules
from typing import Annotated, Any, ClassVar, TypeVar, Union, get_args

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, with_config
from typing_extensions import TypedDict

SPEED_FIELDS = {"engine"}
"""Fields of every section that decide how fast it runs, and nothing else."""

Share = Annotated[float, Field(ge=0.0, le=1.0)]


class Section(BaseModel):
    """A part of the recipe: unknown keys refused, values checked, immutable.

    Attributes:
        renamed: keys of older recipes, and what they are called now; they are refused by that name.
    """

    renamed: ClassVar[Mapping[str, str]] = {}

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, allow_inf_nan=False)


AnyKind = TypeVar("AnyKind", bound=Section)


def kinds_in(package: str, base: type[AnyKind], *, tag: str = "type") -> dict[str, type[AnyKind]]:
    """The settings of every kind in a package, by the names that its field `tag` allows.

    Every module directly in the package is imported, so that none of them may import anything heavy
    before it is used. Names come in alphabetical order.

    Args:
        package: dotted name, e.g. "wrpo.rewards".
        base: what the settings of all kinds derive from; classes without `tag` are none.
        tag: the field, a `Literal`, that names the kind in a recipe.
    """
    found: dict[str, type[AnyKind]] = {}
    for module in iter_modules(import_module(package).__path__):
        for value in vars(import_module(f"{package}.{module.name}")).values():
            if isinstance(value, type) and issubclass(value, base) and tag in value.model_fields:
                for name in get_args(value.model_fields[tag].annotation):
                    found[name] = value
    return dict(sorted(found.items()))


def lacks(key: str, name: str, kinds: Mapping[str, type[BaseModel]], *, tag: str) -> str | None:
    """Says which kinds have a key that this one has not; None where none has it."""
    having = [other for other, kind in kinds.items() if key in kind.model_fields]
    if not having:
        return None
    verb = "has" if len(having) == 1 else "have"
    return f"{tag} {name} has no {key}; {' and '.join(having)} {verb}"


def any_of(
    kinds: Mapping[str, type[AnyKind]], *, tag: str = "type", default: str | None = None
) -> Any:
    """The type of a recipe field that takes the settings of any of these kinds.

    Args:
        default: the kind where a recipe does not name one; None: it must.
    """
    if default is None:
        distinct = tuple(dict.fromkeys(kinds.values()))
        return Annotated[Union[distinct], Field(discriminator=tag)]  # noqa: UP007
    tagged = tuple(Annotated[kind, Tag(name)] for name, kind in kinds.items())

    def named(value: Any) -> Any:
        return value.get(tag, default) if isinstance(value, dict) else getattr(value, tag, default)

    return Annotated[Union[tagged], Discriminator(named)]  # noqa: UP007


def by_name(kinds: Mapping[str, type[AnyKind]]) -> Any:
    """The type of a recipe field that maps names of kinds to their settings; others are refused."""
    named: Any = TypedDict("named", dict(kinds), total=False)  # type: ignore[misc]
    return with_config(ConfigDict(extra="forbid"))(named)
