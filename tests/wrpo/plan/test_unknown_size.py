"""Why a model has no size: its tiny world or folder is missing, or nothing tells the number."""

from pathlib import Path

import pytest

from tests.wrpo.plan.test_estimate import pipeline_of, prices
from wrpo.plan.model_shape import unknown_size

WORLD = "runs/tiny-world/seed-3"


def test_all_models_of_a_world_that_is_not_made_have_one_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    models = [f"sources.{name}.model={WORLD}/{name}" for name in ("letters", "numbers")]
    models += [f"target.model={WORLD}/target", f"rewards.rm.model={WORLD}/reward"]
    found = prices(pipeline_of(tmp_path, *models, "prompts.expected_prompts=10"))
    reasons = {each.unknown for each in found.values() if each.unknown}
    assert reasons == {
        f"make the world first (python -m tiny_world --seed 3 --out {WORLD})",
    }
    assert {"sample/letters", "score/letters", "sft", "wrpo"} <= {
        name for name, each in found.items() if each.unknown
    }


def test_a_missing_folder_is_named_and_others_get_the_advice(tmp_path: Path) -> None:
    missing = str(tmp_path / "mine")
    assert unknown_size(missing, "weigh it") == f"there is no folder {missing} yet"
    for model in ("hub/mine", str(tmp_path)):
        assert unknown_size(model, "weigh it") == f"size of {model} unknown: weigh it"
