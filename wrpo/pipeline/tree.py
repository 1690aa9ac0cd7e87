"""The stages of a run as a tree, for reading.

A stage often reads many others. The stages that it has to wait for are those inputs that no other
input waits for too. Where that is one stage, it is the parent; where it is several, the parent is
the nearest stage that all of them come from. So everything above a stage must be done before it,
and a stage that joins branches comes after them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from wrpo.pipeline.stage import Stage

ROOT = ""
"""Parent of the stages at the left edge."""


@dataclass(frozen=True)
class Line:
    """One stage of the tree.

    Attributes:
        branch: what is drawn before its name: the lines of a tree, two characters per level.
        waits_for: inputs that no other input waits for.
    """

    name: str
    branch: str
    waits_for: tuple[Stage, ...]

    @property
    def text(self) -> str:
        """The name in its place, and the stages that it joins."""
        joins = f" (after {_counted(self.waits_for)})" if len(self.waits_for) > 1 else ""
        return f"{self.branch}{self.name}{joins}"


def tree_lines(stages: Mapping[str, Stage]) -> list[Line]:
    """Every stage once, parents first.

    Args:
        stages: by name, in an order in which they can run.
    """
    waits = {name: waits_for(name, stages) for name in stages}
    paths: dict[str, tuple[str, ...]] = {}
    for name in stages:
        paths[name] = (*_common([paths[other] for other in waits[name]]), name)
    children: dict[str, list[str]] = {}
    for name, path in paths.items():
        children.setdefault(path[-2] if len(path) > 1 else ROOT, []).append(name)
    lines: list[Line] = []

    def walk(parent: str, before: str, *, edge: bool) -> None:
        siblings = children.get(parent, [])
        for name in siblings:
            last = name == siblings[-1]
            branch = "" if edge else before + ("└ " if last else "├ ")
            lines.append(Line(name, branch, tuple(stages[other] for other in waits[name])))
            walk(name, "" if edge else before + ("  " if last else "│ "), edge=False)

    walk(ROOT, "", edge=True)
    return lines


def waits_for(name: str, stages: Mapping[str, Stage]) -> tuple[str, ...]:
    """The inputs of a stage that are behind no other of its inputs."""
    above = {other: _ancestors(other, stages) for other in stages[name].inputs}
    return tuple(other for other in above if not any(other in behind for behind in above.values()))


def _ancestors(name: str, stages: Mapping[str, Stage]) -> set[str]:
    found: set[str] = set()
    waiting = list(stages[name].inputs)
    while waiting:
        other = waiting.pop()
        if other not in found:
            found.add(other)
            waiting += stages[other].inputs
    return found


def _common(paths: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """The steps with which all paths begin."""
    common: list[str] = []
    for steps in zip(*paths, strict=False):
        if len(set(steps)) > 1:
            break
        common.append(steps[0])
    return tuple(common)


def _counted(stages: Sequence[Stage]) -> str:
    """Names; several of one kind as their number."""
    kinds = Counter(stage.kind for stage in stages)
    single = {stage.kind: stage.name for stage in stages}
    return ", ".join(
        single[kind] if count == 1 else f"{count} {kind}" for kind, count in kinds.items()
    )
