"""Balanced micro-batches over two processes."""

import json
from pathlib import Path

import pytest

from tests.support.commands import environment, run_module


def run(folder: Path, *, processes: int, batch: int, balance: str) -> dict:
    folder.mkdir()
    launcher = ("torch.distributed.run", "--standalone", f"--nproc_per_node={processes}", "-m")
    script = ("tests.wrpo.training.batches.balanced_run", folder, batch, balance)
    result = run_module(*launcher, *script, env={**environment(), "CUDA_VISIBLE_DEVICES": ""})
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads((folder / "result.json").read_text())


@pytest.fixture(scope="module")
def one(tmp_path_factory) -> dict:
    return run(tmp_path_factory.mktemp("run") / "one", processes=1, batch=4, balance="no")


@pytest.mark.slow
@pytest.mark.parametrize("balance", ["yes", "tokens", "scarce"])
def test_two_balanced_processes_train_and_resume_like_one_without_balancing(tmp_path, one, balance):
    """Also in the last optimizer step of an epoch, with 3 rows, and with 1 row for 2 processes."""
    two = run(tmp_path / "two", processes=2, batch=2, balance=balance)
    assert two["weights"] == pytest.approx(one["weights"], rel=1e-7)
    exact = 1e-7 if balance == "scarce" else 1e-12  # whose budget is halved at another step
    assert two["resumed"] == pytest.approx(two["weights"], rel=exact)
    assert two["short_steps"] == one["short_steps"] == 4
    # Padding differs, so FLOPs do; in whole steps the epoch is counted in these.
    different = (
        "runtime",
        "per_second",
        "total_flos",
        *(("epoch",) if balance != "yes" else ()),
    )
    for left, right in zip(one["log"], two["log"], strict=True):
        assert left.keys() == right.keys()
        for key in left:
            if not key.endswith(different):
                assert right[key] == pytest.approx(left[key], rel=1e-4, abs=1e-6), key
    if balance == "scarce":
        assert two["budgets"] == [300, 600, 300], "the resumed one has too few passes left"
        plain, halved = two["sft"]
        assert halved["weights"] == pytest.approx(plain["weights"], rel=1e-6)
        assert halved["tokens"] == plain["tokens"]
        assert (plain["budget"], halved["budget"]) == (120, 60)
