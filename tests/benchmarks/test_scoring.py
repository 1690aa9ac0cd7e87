"""The scoring benchmark compares like with like."""

from pathlib import Path

import pytest

from benchmarks.scoring import (
    demo_model,
    demo_prompts,
    drawn_prompts,
    public_loop,
    score_stage,
    token_counts,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return demo_model(tmp_path_factory.mktemp("demo"))


def test_both_ways_give_the_same_scores(folder: Path) -> None:
    candidates = [one for group in demo_prompts(3) for one in group]
    public, stage = public_loop(folder)(candidates), score_stage(folder)(candidates)
    assert len(public) == 3 * 20
    assert stage == pytest.approx(public, abs=1e-5)
    assert len(set(public)) > 10


def test_drawn_texts_have_about_the_lengths_of_their_kind(folder: Path) -> None:
    alone, shared = token_counts(folder, drawn_prompts("long", 1, folder))
    assert 20 * 1000 < alone < 20 * 5000
    assert 2 < alone / shared < 5
