"""The GPU benchmark at tiny size on a CPU: every part gives its figures, and failures show."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from argparse import Namespace

import pytest

from benchmarks.gpu import world
from benchmarks.gpu.__main__ import SHARES, figures_of, measure, parse
from benchmarks.gpu.figures import Figure, machine, markdown
from tests.support.commands import REPOSITORY
from wrpo.pipeline.pipeline import Pipeline
from wrpo.recipe import load_recipe

BF16 = "autocast over bfloat16 weights"


@pytest.mark.slow
@pytest.mark.parametrize("part", ["steps", "trainers", "scores"])
def test_every_part_runs_at_tiny_size(part: str) -> None:
    found = list(figures_of(part, device="cpu", tiny=True))
    assert {figure.part for figure in found} == {part}
    assert any(figure.least is not None for figure in found)
    assert all(figure.value > 0 for figure in found)
    told = " ".join(figure.what for figure in found)
    if part == "trainers":
        for arm in ("TRL over ours", "2 per device, over", "LoRA: TRL over", "loop over segments"):
            assert arm in told


@pytest.mark.slow
def test_launches_are_counted_of_every_way() -> None:
    import torch._dynamo

    with torch._dynamo.config.patch(disable=False):
        figures = list(figures_of("launches", device="cpu", tiny=True))
    found = {figure.what.partition(": ")[2]: figure for figure in figures}
    assert not [what for what in found if "does not run" in what]
    counts = {what: f.value for what, f in found.items() if what.endswith("launches")}
    plain, half = (counts[f"{name}, launches"] for name in ("eager, bfloat16 weights", BF16))
    assert plain == half, "autocast casts nothing that is bfloat16 already"
    assert counts["autocast over float32 weights, launches"] > half
    assert counts["AdamW, fused, launches"] < counts["AdamW, tensor by tensor, launches"]
    assert 0 < counts["compiled layers, launches"] < plain


@pytest.mark.slow
def test_layouts_are_exact_in_every_family() -> None:
    found = list(figures_of("exactness", device="cpu", tiny=True))
    assert len(found) == 10 * 2 + 2
    assert [figure for figure in found if not figure.reached] == []


def test_every_stage_of_the_tiny_world_can_be_started(tmp_path) -> None:
    """They run in `tests/tiny_world`; here the recipe that they get has to be one."""
    changes = world.overrides(tmp_path, prompts=24)
    recipe = load_recipe(REPOSITORY / "recipes" / "demo.yaml", changes)
    assert recipe.sft.engine.per_device_batch_size == "auto"
    assert recipe.sample.engine.backend == "transformers"
    stages = Pipeline(recipe)
    commands = " ".join(stages.shell_command(name) for name in stages.stages)
    for module, *options in world.STAGES:
        assert f"-m {' '.join([module, *options])} --recipe" in commands


def test_a_stage_that_fails_is_a_figure(monkeypatch) -> None:
    monkeypatch.setattr("tiny_world.build.build_world", lambda *_, **__: True)
    monkeypatch.setattr(world, "STAGES", (("wrpo.no_such_module",),))
    failed, done = world.figures(prompts=1, steps_scale=1)
    assert failed.reached is done.reached is False
    assert failed.note


def test_figures_are_handed_on_and_shown() -> None:
    good = Figure("steps", "ratio", 1.9, least=1.85)
    bad = Figure("exactness", "distance", 0.5, "nats", most=2e-4, note="of 3")
    plain = Figure("steps", "a prompt", 0.2, "s")
    assert (good.reached, bad.reached, plain.reached) == (True, False, None)
    assert Figure(**json.loads(bad.line())) == bad
    table = markdown({"gpu": "H200", "vllm": None}, [good, bad, plain], ["trainers after 60 s"])
    assert "gpu H200" in table and "vllm" not in table
    assert "| steps | ratio | 1.9 | at least 1.85 | yes |" in table
    assert "| exactness | distance | 0.5 nats (of 3) | at most 0.0002 | **no** |" in table
    assert "Not finished: trainers after 60 s" in table
    assert machine()["torch"]


def test_a_part_that_is_out_of_time_is_named() -> None:
    found, stopped = measure("scores", Namespace(device="cpu", tiny=True), 0.01)
    assert (found, stopped) == ([], "scores after 0 s")


@pytest.mark.slow
def test_what_a_part_has_started_ends_with_it(monkeypatch) -> None:
    child = "import time; time.sleep(60)"
    part = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    started = subprocess.Popen
    monkeypatch.setattr(
        subprocess, "Popen", lambda _, **options: started([sys.executable, "-c", part], **options)
    )
    begun = time.monotonic()
    assert measure("world", Namespace(device="cpu", tiny=True), 2) == ([], "world after 2 s")
    assert time.monotonic() - begun < 30


def test_the_shares_of_the_minutes_add_up() -> None:
    assert sum(SHARES.values()) == pytest.approx(1)
    assert parse([]).only == list(SHARES)
