"""A loss that is no finite number ends training, wherever it comes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import TrainerControl

from wrpo.errors import ModelError
from wrpo.training.callbacks import FiniteLoss


class Stub:
    """The parts of a trainer that are read; each micro-batch gives the next loss."""

    def __init__(self, *losses: float) -> None:
        self.losses = [torch.tensor(loss) for loss in losses]
        self.state = SimpleNamespace(global_step=0)
        self.args = SimpleNamespace(output_dir="checkpoints")
        self.accelerator = SimpleNamespace(num_processes=1, device=torch.device("cpu"))
        self.logged: list[dict[str, float]] = []

    def training_step(self, model: Any, inputs: Any) -> torch.Tensor:
        return self.losses.pop(0)

    def log(self, logs: dict[str, float]) -> None:
        self.logged.append(logs)


def run(stub: Stub, *, micro_batches: int = 1) -> FiniteLoss:
    watch: Any = FiniteLoss(stub, where="sft.train")  # type: ignore[arg-type]
    while stub.losses:
        for _ in range(micro_batches):
            stub.training_step(None, None)
        stub.state.global_step += 1
    return watch


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("place", range(4))
def test_the_first_step_is_named_whatever_came_after_it(bad: float, place: int) -> None:
    losses = [0.5, 0.4, 0.3, 0.2, torch.nan]
    losses[place] = bad
    stub = Stub(*losses)
    watch = run(stub)
    with pytest.raises(ModelError, match=rf"loss of step {place + 1} is {bad},.*learning_rate"):
        watch.require()
    assert repr(stub.logged) == repr([{"loss": bad}])


def test_one_micro_batch_of_a_step_is_enough() -> None:
    watch = run(Stub(0.5, 0.4, 0.3, torch.nan), micro_batches=2)
    with pytest.raises(ModelError, match="step 2 is nan"):
        watch.require()


def test_finite_losses_pass_and_nothing_is_read_between_logs() -> None:
    stub = Stub(0.0, 1e30, -3.0)
    watch = run(stub)
    watch.require()
    assert stub.logged == []
    bad = run(Stub(torch.nan))
    control, state = TrainerControl(), stub.state
    bad.on_step_end(None, state, control)  # type: ignore[arg-type]
    for name in ("should_log", "should_save", "should_training_stop"):
        with pytest.raises(ModelError):
            due = TrainerControl(**{name: True})
            bad.on_step_end(None, state, due)  # type: ignore[arg-type]
    with pytest.raises(ModelError):
        bad.on_epoch_end()
