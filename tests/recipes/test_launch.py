"""The launch files: their shell runs for real, against stand-ins of `srun` and `scontrol`."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tests.support.command_server import FAST_PYTHON
from tests.support.commands import start_server

ROOT = Path(__file__).parents[2]
LAUNCH = ROOT / "recipes/launch"
SCRIPTS = sorted([*LAUNCH.rglob("*.sh"), *LAUNCH.rglob("*.sbatch")])
SKYPILOT = sorted((LAUNCH / "skypilot").glob("*.yaml"))

# Runs the command once per node, as the step's tasks on as many machines; --nodelist names one.
SRUN = """#!/usr/bin/env bash
count=${SLURM_NNODES:-1}
while [[ ${1:-} == --* ]]; do
    [[ $1 == --nodes=1 ]] && count=1
    shift
done
children=()
trap 'kill -TERM "${children[@]}" 2>/dev/null' TERM
for ((node = 0; node < count; node++)); do
    SLURM_NODEID=$node "$@" &
    children+=($!)
done
code=0
for child in "${children[@]}"; do
    while :; do
        wait "$child"; found=$?
        kill -0 "$child" 2>/dev/null || break
    done
    [[ $found -ne 0 ]] && code=$found
done
exit "$code"
"""
SCONTROL = """#!/usr/bin/env bash
case "$1 $2" in
"show hostnames") for ((n = 0; n < ${SLURM_NNODES:-1}; n++)); do echo 127.0.0.1; done ;;
*) echo "$@" >>"$SCONTROL_LOG" ;;
esac
"""


@pytest.fixture
def slurm(tmp_path: Path) -> dict[str, str]:
    """The environment of a batch script, with stand-ins of Slurm's commands first on its path."""
    start_server()
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, text in {"srun": SRUN, "scontrol": SCONTROL}.items():
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    return {
        **os.environ,
        "PATH": f"{commands}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "SLURM_SUBMIT_DIR": str(ROOT),
        "SLURM_JOB_ID": str(1000 + os.getpid() % 9000),
        "SLURM_JOB_NODELIST": "ignored",
        "SCONTROL_LOG": str(tmp_path / "scontrol.log"),
        "PYTHON": str(FAST_PYTHON),
        "RETRY_SECONDS": "0.2",
        "OMP_NUM_THREADS": "1",
    }


def recorder(folder: Path, body: str = "") -> str:
    """A program in the place of Python: it writes down how it was called, then runs `body`."""
    path = folder / "recorder"
    log = folder / "calls.log"
    path.write_text(
        f"#!{sys.executable}\nimport os, sys\n"
        f"open({str(log)!r}, 'a').write(' '.join(sys.argv[1:]) + '\\n')\n{body}\n"
    )
    path.chmod(0o755)
    return str(path)


def script(name: str, *arguments: str) -> list[str]:
    return ["bash", str(LAUNCH / name), *arguments]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_sound(path: Path) -> None:
    subprocess.run(["bash", "-n", path], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", "-x", "-s", "bash", path], cwd=ROOT, check=True)


@pytest.mark.parametrize(("task", "shard"), [("3", "1/3"), ("5", "3/3")])
def test_each_task_of_an_array_does_its_shard(
    slurm: dict[str, str], tmp_path: Path, task: str, shard: str
) -> None:
    array = {"SLURM_ARRAY_TASK_ID": task, "SLURM_ARRAY_TASK_MIN": "3"}
    environment = {
        **slurm,
        **array,
        "SLURM_ARRAY_TASK_COUNT": "3",
        "PYTHON": recorder(tmp_path),
    }
    command = script("slurm/sample-array.sbatch", "r.yaml", "qwen72b", "sample.responses=8")
    subprocess.run(command, env=environment, check=True)
    assert (tmp_path / "calls.log").read_text() == (
        f"-m data_construction.sample --source qwen72b --shard {shard} --recipe r.yaml "
        "sample.responses=8\n"
    )


def test_the_array_script_speaks_the_language_of_the_command(slurm: dict[str, str]) -> None:
    array = {"SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_COUNT": "2"}
    command = script(
        "slurm/sample-array.sbatch", "recipes/llama3-8b-wrpo.yaml", "gemma2-9b", "--dry-run"
    )
    result = subprocess.run(command, env={**slurm, **array}, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "sample/gemma2-9b" in result.stdout


def test_a_job_that_gets_sigterm_stops_its_command_and_goes_back_to_the_queue(
    slurm: dict[str, str], tmp_path: Path
) -> None:
    body = (
        "import time\nfrom wrpo.cli import run_main\n"
        f"def main():\n    open({str(tmp_path / 'ready')!r}, 'w').close()\n    time.sleep(60)\n"
        "run_main(main)"
    )
    array = {"SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_COUNT": "1"}
    environment = {**slurm, **array, "PYTHON": recorder(tmp_path, body), "PYTHONPATH": str(ROOT)}
    job = subprocess.Popen(
        script("slurm/sample-array.sbatch", "r.yaml", "one"),
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (tmp_path / "ready").exists():
        assert job.poll() is None
        time.sleep(0.05)
    time.sleep(0.3)
    job.send_signal(signal.SIGTERM)
    _, errors = job.communicate(timeout=60)
    assert job.returncode == 143
    assert "run the same command again" in errors and "back to the queue" in errors
    assert (tmp_path / "scontrol.log").read_text() == f"requeue {slurm['SLURM_JOB_ID']}\n"


def test_a_command_that_fails_does_not_go_back_to_the_queue(
    slurm: dict[str, str], tmp_path: Path
) -> None:
    array = {"SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_COUNT": "1"}
    environment = {**slurm, **array, "PYTHON": recorder(tmp_path, "sys.exit(2)")}
    result = subprocess.run(script("slurm/sample-array.sbatch", "r.yaml", "one"), env=environment)
    assert result.returncode == 2 and not (tmp_path / "scontrol.log").exists()


def test_stages_run_in_order_on_the_cluster_and_stop_at_the_first_failure(
    slurm: dict[str, str], tmp_path: Path
) -> None:
    body = "sys.exit(2 if 'b' in sys.argv else 0)"
    environment = {**slurm, "PYTHON": recorder(tmp_path, body), "SHARED": "s3://bucket/x"}
    command = script("ray/stages.sh", "r.yaml", "a", "b", "c", "--", "run=new")
    assert subprocess.run(command, env=environment).returncode == 2
    executor = 'executor={type: ray, address: auto, shared: "s3://bucket/x"}'
    assert (tmp_path / "calls.log").read_text().splitlines() == [
        f"-m data_construction.{stage} --source {source} --recipe r.yaml {executor} run=new"
        for stage, source in (("sample", "a"), ("score", "a"), ("sample", "b"))
    ]


def test_the_executor_that_the_script_writes_is_one_that_recipes_know(tmp_path: Path) -> None:
    from tests.support.recipe_files import tiny_recipe

    executor = 'executor={type: ray, address: auto, shared: "s3://bucket/x"}'
    recipe = tiny_recipe(tmp_path, executor)
    assert recipe.executor.model_dump()["shared"] == "s3://bucket/x"


@pytest.mark.slow
def test_training_meets_over_two_nodes(slurm: dict[str, str], tmp_path: Path) -> None:
    environment = {
        **slurm,
        "SLURM_NNODES": "2",
        "GPUS_PER_NODE": "1",
        "ACCELERATE": "recipes/accelerate/ddp.yaml",
        "PYTHONPATH": str(ROOT),
        "MET": str(tmp_path),
    }
    command = script("slurm/train.sbatch", "r.yaml", "tests.recipes.launched", "--arm", "dpo")
    subprocess.run(command, env=environment, check=True, timeout=300)
    assert {path.name: path.read_text() for path in tmp_path.glob("rank-*")} == {
        f"rank-{rank}": "2 ranks: --recipe r.yaml --arm dpo" for rank in (0, 1)
    }


@pytest.mark.slow
def test_the_nodes_of_a_job_become_one_ray_cluster(slurm: dict[str, str], tmp_path: Path) -> None:
    body = (
        "import ray, time\nray.init(address='auto', log_to_driver=False)\n"
        "while len(ray.nodes()) < 2: time.sleep(0.2)\n"
        f"open({str(tmp_path / 'nodes')!r}, 'w').write(str(len(ray.nodes())))"
    )
    environment = {**slurm, "SLURM_NNODES": "2", "PYTHON": recorder(tmp_path, body)}
    command = script("slurm/ray.sbatch", "r.yaml", "one")
    subprocess.run(command, env=environment, check=True, timeout=300, stdout=subprocess.DEVNULL)
    assert len((tmp_path / "calls.log").read_text().splitlines()) == 2
    assert int((tmp_path / "nodes").read_text()) == 2


# The fields of docs.skypilot.co/en/latest/reference/yaml-spec.html that these files use.
SKYPILOT_FIELDS = {
    "name": str,
    "workdir": str,
    "num_nodes": int,
    "resources": dict,
    "envs": dict,
    "secrets": dict,
    "file_mounts": dict,
    "setup": str,
    "run": str,
}
RESOURCES = {"accelerators", "use_spot", "disk_size", "network_tier"}


@pytest.mark.parametrize("path", SKYPILOT, ids=lambda path: path.stem)
def test_skypilot_tasks_have_documented_fields_and_sound_scripts(path: Path) -> None:
    task = yaml.safe_load(path.read_text())
    assert {name: type(value) for name, value in task.items()} == {
        name: SKYPILOT_FIELDS[name] for name in task
    }
    assert set(task["resources"]) <= RESOURCES
    for mount in task["file_mounts"].values():
        assert mount["mode"] in ("MOUNT", "MOUNT_CACHED", "COPY") and set(mount) == {
            "source",
            "mode",
        }
    assert not [value for value in task["secrets"].values() if value], "a key in a file"
    for field in ("setup", "run"):
        subprocess.run(["bash", "-n"], input=task[field], text=True, check=True)
    words = set(task["run"].split())
    files = [word for word in words if word.startswith("recipes/launch/")]
    assert all((ROOT / file).is_file() for file in files)
