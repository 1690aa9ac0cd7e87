"""Two processes train like one, whatever splits the work; a stopped run goes on as if it had not.

The ways are those of recipes/accelerate, in float32 on CPUs. Each is launched once for all tests,
by accelerate's own launcher.
"""

import json
import subprocess
from functools import cached_property
from pathlib import Path

import pytest

from tests.support.commands import environment, run_module
from tests.support.tiny_models import save_tiny

WAYS = ("ddp", "zero2", "zero3", "fsdp2")
CASES = ("prefix", "padded", "model", "copy", "lora")
HARDWARE = ("runtime", "per_second", "total_flos")  # padding differs, so FLOPs do

pytestmark = pytest.mark.slow


class Way:
    """The stage folders of some cases under one way, made when they are first asked for.

    With `gpus` the accelerate configs serve as they are, in bfloat16.
    """

    def __init__(
        self, name: str, folder: Path, *, cases: tuple[str, ...], gpus: bool = False
    ) -> None:
        self.name, self._folder, self._cases, self._gpus = name, folder, cases, gpus

    @property
    def stages(self) -> Path:
        assert self._launched.returncode == 0, self._launched.stderr[-5000:]
        return self._folder / self.name

    @cached_property
    def _launched(self) -> subprocess.CompletedProcess[str]:
        """Kept when it failed too: a second launch would go on in the folders of the first."""
        script = ("tests.wrpo.training.distributed_run", self._folder, self.name, *self._cases)
        return run_module(*self._launcher(), *script, env={**environment(), **self._environment()})

    def _launcher(self) -> tuple[str, ...]:
        if self.name == "one":
            return ()
        options = (f"--config_file=recipes/accelerate/{self.name}.yaml", "--num_processes=2")
        precision = () if self._gpus else ("--mixed_precision=no",)
        port = "--main_process_port=0"
        return ("accelerate.commands.launch", *options, *precision, port, "--module")

    def _environment(self) -> dict[str, str]:
        if self._gpus:
            # Trainer spreads one process over all GPUs that it sees.
            return {"CUDA_VISIBLE_DEVICES": "0" if self.name == "one" else "0,1"}
        return {"CUDA_VISIBLE_DEVICES": "", "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def ways(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Way]:
    folder = tmp_path_factory.mktemp("distributed")
    save_tiny(folder / "policy")
    save_tiny(folder / "reference", seed=1)
    two = {name: Way(name, folder, cases=(*CASES, "resume")) for name in WAYS}
    two["ddp"] = Way("ddp", folder, cases=(*CASES, "resume", "nan"))
    two["zero2"] = Way("zero2", folder, cases=(*CASES, "resume", "batch"))
    return {"one": Way("one", folder, cases=CASES), **two}


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, ways: dict[str, Way]) -> Way:
    if request.param.startswith("zero"):
        pytest.importorskip("deepspeed")
    return ways[request.param]


@pytest.mark.parametrize("case", CASES)
def test_two_processes_train_report_and_save_like_one(ways, way, case):
    one, two = ways["one"].stages / case, way.stages / case
    assert_same_history(one, two, relative=1e-4, absolute=1e-5)
    assert distance(one, two) < 1e-7
    assert distance(one, ways["one"].stages.parent / "policy") > 1e-4


def test_resumed_run_equals_the_uninterrupted_one(way):
    whole, resumed = way.stages / "resume", way.stages / "resumed"
    assert (resumed / "checkpoints" / "checkpoint-6").is_dir()
    # Trainer's summary averages over the steps of its own process.
    assert_same_history(whole, resumed, relative=0, absolute=0, but=(*HARDWARE, "train_loss"))
    assert distance(whole, resumed) == 0


@pytest.mark.parametrize("way", ["zero2"], indirect=True)
def test_reference_columns_stay_exact_where_deepspeed_casts_a_batch(way):
    batch = json.loads((way.stages / "batch.json").read_text())
    assert batch == {"number": "torch.bfloat16", "reference_is_exact": True}


@pytest.mark.parametrize("way", ["ddp"], indirect=True)
def test_a_loss_that_is_no_number_in_one_process_stops_both_with_its_step(way):
    said = [(way.stages / f"nan-{rank}.txt").read_text() for rank in (0, 1)]
    assert said[0] == said[1] and "the loss of step 2 is nan" in said[0]


def assert_same_history(
    left: Path,
    right: Path,
    *,
    relative: float,
    absolute: float,
    but: tuple[str, ...] = HARDWARE,
) -> None:
    histories = [json.loads((stage / "log_history.json").read_text()) for stage in (left, right)]
    for one, two in zip(*histories, strict=True):
        assert one.keys() == two.keys()
        for key in one:
            if not key.endswith(but):
                expected = pytest.approx(one[key], rel=relative, abs=absolute)
                assert two[key] == expected, (one["step"], key)


def distance(left: Path, right: Path) -> float:
    """Largest relative distance (L2) of a weight between two stages' models."""
    first, second = (weights(folder) for folder in (left, right))
    assert first.keys() == second.keys()
    return max(((first[k] - second[k]).norm() / first[k].norm()).item() for k in first)


def weights(folder: Path) -> dict:
    from transformers import AutoModelForCausalLM

    path = folder / "model" if (folder / "model").is_dir() else folder
    return AutoModelForCausalLM.from_pretrained(path).state_dict()
