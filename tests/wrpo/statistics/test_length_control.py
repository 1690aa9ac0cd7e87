"""The length-controlled win rate against alpaca-eval's own, on the same annotations and files."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wrpo.errors import DataError
from wrpo.statistics.length_control import length_controlled, read_gamed


def write_gamed(path: Path, n: int, rng: np.random.Generator) -> None:
    """A file like df_gamed.csv: two gamed baselines on n instructions."""
    difficulty = rng.normal(size=n)
    with path.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(
            [
                "model",
                "index",
                "preference",
                "std_delta_len",
                "instruction_difficulty",
                "not_gamed_baseline",
            ]
        )
        for model, shift in (("concise", -1.5), ("verbose", 1.5)):
            for number in range(n):
                delta = shift + rng.normal()
                odds = -0.9 * np.tanh(delta) + 0.1 * difficulty[number] + rng.normal()
                preference = 1 / (1 + np.exp(-odds))
                writer.writerow([model, number, preference, delta, difficulty[number], False])


def annotations(
    n: int, rng: np.random.Generator, *, longer: float, skill: float
) -> list[dict[str, Any]]:
    """Preferences in alpaca-eval's scale, 1 to 2; some are clear, some ties, some missing."""
    rows = []
    for number in range(n):
        baseline = int(rng.integers(50, 2000))
        model = max(1, int(baseline * longer * rng.lognormal(0, 0.4)))
        odds = skill + 1.2 * np.tanh((model - baseline) / 600) + rng.normal()
        preference = 1 + 1 / (1 + np.exp(-odds))
        if number % 17 == 0:
            preference = 1.5
        if number % 29 == 5:
            preference = float("nan")
        rows.append(
            {
                "index": number,
                "output_1": "b" * baseline,
                "output_2": "m" * model,
                "generator_1": "base",
                "generator_2": "model",
                "annotator": "judge",
                "preference": preference,
            }
        )
    return rows


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(("longer", "skill"), [(1.0, 0.0), (1.8, 0.5), (0.5, -1.0), (1.1, 3.0)])
def test_it_equals_alpaca_evals(
    longer: float, skill: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    glm_winrate = pytest.importorskip("alpaca_eval.metrics.glm_winrate")
    rng = np.random.default_rng(int(100 * longer + skill))
    path = tmp_path / "df_gamed.csv"
    write_gamed(path, 805, rng)
    rows = annotations(805, rng, longer=longer, skill=skill)
    monkeypatch.setattr(glm_winrate, "hf_hub_download", lambda **arguments: str(path))
    theirs = glm_winrate.get_length_controlled_winrate(rows, save_weights_dir=None)
    ours = length_controlled(
        np.array([row["preference"] for row in rows]) - 1.0,
        model_lengths=np.array([float(len(row["output_2"])) for row in rows]),
        baseline_lengths=np.array([float(len(row["output_1"])) for row in rows]),
        numbers=[row["index"] for row in rows],
        gamed=read_gamed(path),
    )
    assert ours.win_rate == pytest.approx(theirs["length_controlled_winrate"], abs=1e-6)
    assert ours.standard_error == pytest.approx(theirs["lc_standard_error"], abs=1e-6)
    assert abs(ours.win_rate - theirs["win_rate"]) > 0.1


def test_an_instruction_without_difficulty_and_another_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "df_gamed.csv"
    write_gamed(path, 10, np.random.default_rng(1))
    lengths = np.arange(1.0, 4.0)
    arguments = {"model_lengths": lengths, "baseline_lengths": lengths * 2}
    with pytest.raises(DataError, match="number 10"):
        length_controlled(lengths / 4, numbers=[0, 1, 10], gamed=read_gamed(path), **arguments)
    with pytest.raises(DataError, match="lengths differ"):
        same = {**arguments, "baseline_lengths": lengths}
        length_controlled(lengths / 4, numbers=[0, 1, 2], gamed=read_gamed(path), **same)
    path.write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match=r"df_gamed\.csv"):
        read_gamed(path)
