"""Which keys of an `engine:` section belong to which backend, over all layers of a recipe."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from wrpo.recipe.sampling import ENGINES, Model
from wrpo.recipe.schema import Recipe
from wrpo.settings import lacks


def merge_layers(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` on `base`; where it names a backend, the engine keeps what that backend knows.

    >>> base = {"engine": {"enforce_eager": True, "replicas": 2}}
    >>> merge_layers(base, {"engine": {"backend": "transformers"}})
    {'engine': {'replicas': 2, 'backend': 'transformers'}}
    """
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(value, dict) and isinstance(below, dict):
            if key == "engine":
                below = fitting(below, value.get("backend"))
            value = merge_layers(below, value)
        merged[key] = value
    return merged


def fitting(engine: dict[str, Any], backend: Any) -> dict[str, Any]:
    """An engine's keys without those that only other backends have."""
    known = ENGINES.get(backend) if isinstance(backend, str) else None
    if known is None:
        return engine
    others = {key for kind in ENGINES.values() for key in kind.model_fields}
    return {key: engine[key] for key in engine if key in known.model_fields or key not in others}


def engine_problems(recipe: Recipe) -> Iterator[tuple[tuple[str, ...], str]]:
    """The place and the fault of each key of a model that its backend does not have."""
    models: dict[tuple[str, ...], Model] = {("target",): recipe.target}
    models |= {("sources", name): entry for name, entry in recipe.sources.items()}
    for place, entry in models.items():
        own = entry.engine.model_dump(exclude_none=True)
        backend = own.get("backend") or recipe.sample.engine.backend
        for key in sorted(own.keys() - ENGINES[backend].model_fields.keys()):
            yield (*place, "engine", key), str(lacks(key, backend, ENGINES, tag="backend"))
