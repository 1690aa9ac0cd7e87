"""What the doctor says of processes and kernels that training asks for."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from wrpo.doctor import training
from wrpo.doctor.checks import CheckContext, Finding
from wrpo.recipe import load_recipe

SFT = "training sft"


def of_sft(path: Path, *overrides: str) -> Finding:
    asked = CheckContext(load_recipe(path, list(overrides)), offline=True)
    found: Iterator[Finding] = training.training_checks(asked)
    return next(finding for finding in found if finding.subject == SFT)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    """A machine with so many GPUs and without some packages."""

    def make(gpus: int, *lacking: str) -> None:
        find = importlib.util.find_spec
        monkeypatch.setattr(training, "devices", lambda: ("H100",) * gpus)
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name: None if name in lacking else find(name)
        )

    return make


def test_an_accelerate_config_that_is_not_there(write_recipe, tmp_path: Path) -> None:
    found = of_sft(write_recipe(), f"sft.engine.accelerate={tmp_path / 'none.yaml'}")
    assert found.level == "problem" and "no file" in found.message


def test_deepspeed_that_is_not_installed(write_recipe, tmp_path: Path, machine) -> None:
    config = tmp_path / "zero3.yaml"
    config.write_text("distributed_type: DEEPSPEED\nnum_processes: 1\n")
    machine(1, "deepspeed")
    found = of_sft(write_recipe(), f"sft.engine.accelerate={config}")
    assert found.level == "problem" and "needs deepspeed" in found.message
    assert "wrpo[deepspeed]" in str(found.remedy)


@pytest.mark.parametrize(("gpus", "level"), [(0, "warning"), (1, "problem")])
def test_more_processes_than_gpus(
    gpus: int, level: str, write_recipe, tmp_path: Path, machine
) -> None:
    config = tmp_path / "two.yaml"
    config.write_text("distributed_type: MULTI_GPU\nnum_processes: 2\n")
    machine(gpus)
    batch = ["sft.global_batch_size=4", "sft.engine.per_device_batch_size=2"]
    found = of_sft(write_recipe(), f"sft.engine.accelerate={config}", *batch)
    assert found.level == level and f"this machine has {gpus} GPUs" in found.message


@pytest.mark.parametrize(
    ("kernel", "gpus", "lacking", "level", "says"),
    [
        ("varlen", 0, (), "warning", "varlen needs a GPU"),
        ("flash_attention_2", 1, ("flash_attn",), "problem", "not installed"),
        ("flash_attention_2", 0, ("flash_attn",), "warning", "not installed"),
        ("sdpa", 0, (), "ok", "rows per step"),
    ],
)
def test_a_kernel_that_does_not_run_here(
    kernel: str, gpus: int, lacking: tuple[str, ...], level: str, says: str, write_recipe, machine
) -> None:
    machine(gpus, *lacking)
    found = of_sft(write_recipe(), f"sft.engine.attention={kernel}")
    assert found.level == level and says in found.message
