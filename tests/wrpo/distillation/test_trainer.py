"""Training on distributions: batches, and steps that do not depend on how they are cut."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.commands import environment
from tests.wrpo.distillation.teacher_training import V, rows, trained
from tests.wrpo.training.small_training import logged, policy
from wrpo.distillation.trainer import LessonCollator
from wrpo.objectives.dckd import DCKDSettings
from wrpo.objectives.fusellm import FuseLLMSettings


def test_a_batch_pads_what_is_shorter_and_says_where_something_is_told() -> None:
    both = rows(2, ("source_chosen",), behind=1)
    batch = LessonCollator(("source_chosen",), pad_token_id=0)(both)
    lengths = [len(row["source_chosen_ids"]) for row in both]
    assert batch["labels"].shape == (2, max(lengths) + 1)
    assert batch["mask"].sum(1).tolist() == lengths
    assert batch["told"][0].sum(1).tolist() == [count + 1 for count in lengths]
    short = lengths.index(min(lengths))
    assert (batch["top_logps"][0, short, lengths[short] + 1 :] == -torch.inf).all()
    stored = torch.tensor(both[short]["source_chosen_lessons"][0]["logps"])
    assert torch.equal(batch["top_logps"][0, short, : lengths[short] + 1], stored)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings", [FuseLLMSettings(clm_weight=0.5), DCKDSettings(teacher="one", kl_weight=0.5)]
)
def test_a_step_is_the_mean_over_its_prompts_however_it_is_cut(settings, tmp_path) -> None:
    plain, trainer = trained(tmp_path, settings, size=6)
    start = list(policy().parameters())
    moved = torch.cat([(a - b).flatten() for a, b in zip(plain, start, strict=True)]).norm()
    assert moved > 1e-3 and len(logged(trainer, "loss")) == 3
    for size, tokens in ((2, None), (6, 60)):
        other, again = trained(tmp_path, settings, size=size, tokens=tokens)
        far = torch.cat([(a - b).flatten() for a, b in zip(plain, other, strict=True)]).norm()
        assert far < 1e-5 * moved, (size, tokens)
        assert logged(again, "loss") == pytest.approx(logged(trainer, "loss"), rel=1e-5)
        assert again._total_train_tokens == trainer._total_train_tokens > 0


def test_a_model_with_more_logits_than_tokens_trains(tmp_path) -> None:
    """Configs round their vocabulary up; FuseLLM's released code reads its size off the tokens."""
    _, trainer = trained(tmp_path, FuseLLMSettings(), size=6, vocabulary=V + 26)
    assert all(value > 0 for value in logged(trainer, "clm_loss"))


@pytest.mark.slow
def test_two_processes_train_like_one(tmp_path: Path, run_module: Any) -> None:
    """Two steps of six rows, and one of a single row that five of others fill up, of which the last
    logs the mean and no weight learns."""
    script = ("tests.wrpo.distillation.two_processes", tmp_path)
    launch = ("torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m")
    environment_ = {**environment(), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    result = run_module(*launch, *script, env=environment_)
    assert result.returncode == 0, result.stderr[-3000:]
    found = json.loads((tmp_path / "result.json").read_text())
    weights, trainer = trained(tmp_path, FuseLLMSettings(clm_weight=0.5), size=6)
    other = [torch.tensor(one, dtype=torch.float64) for one in found["weights"]]
    for one, two in zip(weights, other, strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-6)
    assert found["loss"] == pytest.approx(logged(trainer, "loss"), rel=1e-4)
    for name in ("clm_loss", "fusion_loss"):
        assert found[name][:2] == pytest.approx(logged(trainer, name)[:2], rel=1e-4), name
