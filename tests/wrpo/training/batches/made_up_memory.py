"""A device with memory of a test's own, in the place of a GPU."""

from __future__ import annotations

from typing import Any

GIB = 1 << 30


class MadeUp:
    """A device on which a pass takes a fixed part and so much per token."""

    def __init__(self, *, room: float, weights: float, each: float, fixed: float = 0.0) -> None:
        self._room, self._held = room, weights
        self.each, self.fixed, self._peak = each, fixed, 0.0

    def held(self) -> int:
        return int(self._held)

    def peak(self) -> int:
        return int(self._peak)

    def reset(self) -> None:
        self._peak = self._held

    def room(self) -> int:
        return int(self._room)

    def compute(self, tokens: int, *, gradients: float) -> None:
        """A forward and a backward pass, which leaves the gradients."""
        grown = gradients if self._gradients_are_missing else 0.0
        self._peak = max(self._peak, self._held + self.fixed + self.each * tokens + grown)
        self._held += grown
        self._gradients_are_missing = False

    _gradients_are_missing = True

    def optimize(self, *, gradients: float, state: float) -> None:
        """An optimizer step: its state stays, the gradients go."""
        self._held += state - gradients
        self._gradients_are_missing = True

    def follow(self, model: Any) -> list[int]:
        """Takes the memory of each forward pass of a model; their tokens, as they come."""
        seen: list[int] = []

        def forwarded(_: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
            ids = options["input_ids"] if "input_ids" in options else arguments[0]
            seen.append(ids.numel())
            self.compute(ids.numel(), gradients=0)

        model.register_forward_pre_hook(forwarded, with_kwargs=True)
        return seen
