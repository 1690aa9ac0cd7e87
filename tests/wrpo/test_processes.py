"""SIGTERM, as batch systems send it: exit code 143, a message, no child left, work kept."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.conftest import REPOSITORY, hear_ctrl_c
from tests.support.command_server import FAST_PYTHON
from tests.support.commands import start_server
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.tables import SFT_ROWS
from wrpo.recipe import load_recipe

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}

FAMILY = """
import subprocess, sys, time
from wrpo.cli import run_main
from wrpo.processes import run_command

CHILD = "import subprocess, sys, time; subprocess.Popen(['sleep', '77']); time.sleep(77)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(77)"

def main():
    print("ready", flush=True)
    if "--stubborn" in sys.argv:
        subprocess.Popen([sys.executable, "-c", STUBBORN])
    try:
        run_command([sys.executable, "-c", CHILD])
    except KeyboardInterrupt:
        raise KeyboardInterrupt from None  # as Ray does

run_main(main)
"""


def start(*command: object, python: str | Path = sys.executable) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [python, *map(str, command)],
        cwd=REPOSITORY,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hear_ctrl_c,
    )


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    while not condition():
        assert process.poll() is None, process.communicate()[1][-3000:]
        time.sleep(0.05)


def descendants(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "options", "family"),
    [
        (signal.SIGTERM, 143, [], 2),
        (signal.SIGINT, 130, [], 2),
        (signal.SIGTERM, 143, ["--stubborn"], 3),
    ],
)
def test_a_signal_ends_the_command_and_all_that_it_has_started(
    number: int, code: int, options: list[str], family: int
) -> None:
    process = start("-c", FAMILY, *options)
    wait_for(lambda: len(descendants(process)) == family, process)
    time.sleep(0.5)
    started = descendants(process)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert "run the same command again" in errors and "Traceback" not in errors
    assert not [child for child in started if child.is_running()]


@pytest.mark.slow
def test_the_end_of_workers_waits_for_no_resource_tracker() -> None:
    code = (
        "import multiprocessing, time\n"
        "from wrpo import processes\n"
        "processes._GRACE_S = 1e6\n"
        "context = multiprocessing.get_context('forkserver')\n"
        "worker = context.Process(target=time.sleep, args=(77,))\n"
        "worker.start()\n"
        "processes.end_children()\n"
        "print(worker.exitcode)"
    )
    process = start("-c", code)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert output.strip() not in ("", "None")


@pytest.mark.slow
def test_training_saves_a_checkpoint_and_goes_on_from_it(write_recipe, run_module) -> None:
    path = write_recipe(
        sft={
            "global_batch_size": 4,
            "engine": {"per_device_batch_size": 4},
            "train": {"max_steps": 60, "save_strategy": "no", "logging_steps": 1},
        }
    )
    pipeline = Pipeline(load_recipe(path))
    _write_sft_rows(pipeline)
    start_server()
    process = start("-m", "wrpo.train_sft", "--recipe", path, python=FAST_PYTHON)
    wait_for(lambda: (pipeline.folder("sft") / "checkpoints").is_dir(), process)
    shown = ""
    while "'loss'" not in shown:
        shown = process.stdout.readline() if process.stdout else ""
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 143, errors[-3000:]
    assert "run the same command again" in errors
    (checkpoint,) = (pipeline.folder("sft") / "checkpoints").glob("checkpoint-*")
    steps = int(checkpoint.name.removeprefix("checkpoint-"))
    assert 0 < steps < 60 and pipeline.state("sft") == "partial"
    # A kill while the next checkpoint was written leaves weights without the trainer's state.
    half = checkpoint.with_name(f"checkpoint-{steps + 1}")
    half.mkdir()
    shutil.copy(checkpoint / "model.safetensors", half)
    result = run_module("wrpo.train_sft", "--recipe", path)
    assert result.returncode == 0, result.stderr[-3000:]
    assert f"resuming from {checkpoint}\n" in result.stderr
    assert pipeline.state("sft") == "done"


def _write_sft_rows(pipeline: Pipeline) -> None:
    from wrpo.pipeline.folder import StageFolder

    folder = StageFolder(pipeline.folder("build/sft"), pipeline.key("build/sft"))
    folder.open()
    rows = [
        {
            "prompt_id": f"p{n}",
            "prompt": [{"role": "user", "content": f"Say {n}."}],
            "completion": [{"role": "assistant", "content": f"{n}"}],
            "source": "one",
            "index": 0,
            "score": 1.0,
        }
        for n in range(16)
    ]
    folder.finish_parts(folder.write_table(rows, SFT_ROWS))
    assert Path(folder.path).is_dir()
