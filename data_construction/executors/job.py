"""What a stage hands to an executor: which parts, how to make them, what a maker needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from wrpo.pipeline.folder import PartWriter
from wrpo.pipeline.parts import StageWork
from wrpo.recipe import Recipe


class PartPlace(NamedTuple):
    """One part of one stage."""

    stage: str
    part: int


Unit = tuple[PartPlace, ...]
"""Parts that are made together; most often one."""

PartMaker = Callable[[Iterable[Unit]], None]
"""Makes units and writes their parts; asks for the next unit when it has room for it.

It may have several in hand. When no more come it finishes those and returns; it may be called
again."""

Folders = Mapping[str, Path]
"""Finished stage folders by stage name."""

OpenMaker = Callable[[Recipe, Folders, Mapping[str, PartWriter]], PartMaker]
"""Loads models and returns the maker: (recipe, inputs, writers of parts by stage).

Importable, as it is called on other machines."""


@dataclass(frozen=True)
class Needs:
    """What one maker occupies, on one machine."""

    gpus: int
    cpus: int


@dataclass(frozen=True)
class PartsJob:
    """The unfinished parts of one stage, or of several that are made together.

    Attributes:
        name: for messages and the progress bar.
        works: the open stages, by name; they are notified of each part that has arrived.
        inputs: finished folders that the maker reads.
        same_part: for a stage, the input of which a part needs only the file of its own number.
        replicas: how many makers; None: as many as fit.
        gpus: GPUs of a maker where the cluster has any; 0: it needs none.
    """

    name: str
    recipe: Recipe
    works: Mapping[str, StageWork]
    units: Sequence[Unit]
    inputs: Folders
    open_maker: OpenMaker
    replicas: int | None
    gpus: int
    same_part: Mapping[str, str] = field(default_factory=dict)
