import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(folder: Path, *, processes: int, batch: int) -> dict:
    folder.mkdir()
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
        f"--nproc_per_node={processes}",
        *("-m", "tests.wrpo.distributed_run", str(folder), str(batch)),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run(command, check=True, cwd=ROOT, env=environment, timeout=500)
    return json.loads((folder / "result.json").read_text())


@pytest.mark.slow
def test_two_processes_train_and_report_like_one(tmp_path):
    one = run(tmp_path / "one", processes=1, batch=4)
    two = run(tmp_path / "two", processes=2, batch=2)
    assert two["weight"] == pytest.approx(one["weight"], rel=1e-7)
    hardware = ("runtime", "per_second", "total_flos")  # padding differs, so FLOPs do
    for left, right in zip([*one["log"], one["eval"]], [*two["log"], two["eval"]], strict=True):
        assert left.keys() == right.keys()
        for key in left:
            if not key.endswith(hardware):
                assert right[key] == pytest.approx(left[key], rel=1e-4, abs=1e-6), key
