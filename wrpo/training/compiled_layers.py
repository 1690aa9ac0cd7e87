"""`engine.compile` of a recipe: each layer of a decoder by itself through torch.compile.

All layers have one code, so that they share the graphs: few, whatever the number of layers. Lengths
are symbols in them, so that batches of other lengths compile nothing anew. The attention of this
toolkit stays as it is (`wrpo.prefix.attention`): a layer is compiled up to it and from there on.
"""

from __future__ import annotations

from typing import Any

from transformers import GradientCheckpointingLayer

from wrpo.errors import RecipeError


def compile_layers(model: Any, *, backend: str = "inductor") -> None:
    """Has the layers compiled when they are first called; results change by rounding.

    Called when nothing wraps layers any more but for distribution: adapters are in their places.

    Raises:
        RecipeError: the model has no layers as those of transformers are.
    """
    layers = [x for x in model.modules() if isinstance(x, GradientCheckpointingLayer)]
    if not layers:
        raise RecipeError(
            f"engine.compile is true, but {type(model).__name__} is not made of transformers' "
            "layers; leave it out"
        )
    for layer in layers:
        layer.compile(dynamic=True, backend=backend)
