"""When does implicit fusion beat imitation? Changes one thing of the demo at a time.

Run:     python -m tiny_world.sweep --seeds 1 2
Resume:  the same command again; finished stages stay
Writes:  runs/sweep-*; runs/sweep/ gets sweep.json, sweep.md, and two figures in SVG

Number of sources, how well the target is fine-tuned before it learns preferences, noise of the
rewards, number of prompts. Each is compared on WRPO, DPO (both with the likelihood term) and two
controls that imitate: more SFT on y_ws, and on the better of y_ws and y_wt.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from tiny_world.demo import demo_overrides, greedy_scores, make_world, run_pipeline
from wrpo.cli import run_main

logger = logging.getLogger(__name__)

ARMS = {
    "dpo-likelihood": {"objective": "dpo", "likelihood": {"on": "chosen"}},
    "more-sft": {"objective": "sft", "sft_on": "source_chosen"},
    "more-sft-better": {"objective": "sft", "sft_on": "better"},
}
MODELS = {
    "wrpo": "WRPO",
    "dpo-likelihood": "DPO",
    "more-sft-better": "more SFT, better of both",
    "more-sft": "more SFT, y_ws",
    "sft": "SFT before",
}
SOURCES = ("words", "numbers", "letters")
METRICS = {"acc": "accuracy", "reward": "reward (0 to 4)"}

Scores = dict[str, dict[str, float]]
"""Of one run: by model, `acc` and `reward`."""


@dataclass(frozen=True)
class Dial:
    """One thing that is changed.

    Attributes:
        levels: shown on the axis, in order, with the recipe changes of each.
    """

    title: str
    levels: Mapping[str, Sequence[str]]


def dials(world: Path) -> dict[str, Dial]:
    """What is changed, by name; a level without changes is the demo itself."""
    return {
        "sources": Dial(
            "number of sources",
            {"1": [_sources(world, 1)], "2": [_sources(world, 2)], "3": []},
        ),
        "gap": Dial(
            "steps of SFT before",
            {
                "5": ["sft.train.max_steps=5"],
                "13": [],
                "40": ["sft.train.max_steps=40"],
                "120": ["sft.train.max_steps=120"],
            },
        ),
        "noise": Dial(
            "noise of the reward (right content: 10)",
            {
                "0": [],
                **{
                    size: [f"rewards.noise={{type: noise, weight: {size}}}"]
                    for size in ("3", "10", "30")
                },
            },
        ),
        "prompts": Dial(
            "number of prompts",
            {
                **{
                    number: [
                        f"prompts.datasets.fusion.limit={number}",
                        f"prompts.datasets.fusion.expected_prompts={number}",
                    ]
                    for number in ("150", "300", "600")
                },
                "1200": [],
            },
        ),
    }


def _sources(world: Path, number: int) -> str:
    models = {name: {"model": str(world / name), "dtype": "float32"} for name in SOURCES[:number]}
    return f"sources={json.dumps(models)}"


def run_level(seed: int, world: Path, run: Path, changes: Sequence[str]) -> Scores:
    """The demo with these changes; returns what its models scored.

    Raises:
        StageError: a part of it failed.
    """
    fixed = [f"arms={json.dumps(ARMS)}", f"run={run.name}"]
    run_pipeline("demo", [*demo_overrides(seed, world)[1:], *fixed, *changes])
    return greedy_scores(run, MODELS)


def sweep(seeds: Sequence[int], out: Path) -> dict[str, dict[str, list[Scores]]]:
    """Runs every level on the world of every seed: by dial and level, one entry per seed."""
    found: dict[str, dict[str, list[Scores]]] = {}
    for seed in seeds:
        world = make_world(seed)
        base = Path("runs") / f"sweep-{seed}-demo"
        unchanged = run_level(seed, world, base, [])
        for name, dial in dials(world).items():
            levels = found.setdefault(name, {})
            for level, changes in dial.levels.items():
                run = Path("runs") / f"sweep-{seed}-{name}-{level}"
                changed = [f"reuse={base.name}", *changes]
                scores = run_level(seed, world, run, changed) if changes else unchanged
                levels.setdefault(level, []).append(scores)
                write(found, out)
    return found


def write(found: dict[str, dict[str, list[Scores]]], out: Path) -> None:
    """All numbers, their table, and the two figures."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "sweep.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    (out / "sweep.md").write_text(table(found), encoding="utf-8")
    names = list(found)
    for first, second in zip(names[::2], names[1::2], strict=False):
        draw({name: found[name] for name in (first, second)}, out / f"{first}-and-{second}.svg")


def table(found: dict[str, dict[str, list[Scores]]]) -> str:
    """Markdown: accuracy and reward of each model, and by how much WRPO leads imitation."""
    head = ["what", "level", *MODELS.values(), "WRPO - more SFT, better of both"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    titles = {name: dial.title for name, dial in dials(Path()).items()}
    for name, levels in found.items():
        for level, seeds in levels.items():
            cells = [mean_scores(seeds, model) for model in MODELS]
            lead = [s["wrpo"]["reward"] - s["more-sft-better"]["reward"] for s in seeds]
            shown = mean_difference(lead)
            lines.append(f"| {' | '.join([titles[name], level, *cells, shown])} |")
    return "\n".join(lines) + "\n"


def mean_scores(seeds: Sequence[Scores], model: str) -> str:
    """Accuracy and reward of a model over seeds."""
    accuracy, reward = (fmean(one[model][metric] for one in seeds) for metric in METRICS)
    return f"{accuracy:.3f}, {reward:.3f}"


def mean_difference(values: Sequence[float]) -> str:
    """Over seeds, with its interval where they differ."""
    from wrpo.statistics.estimates import t_interval

    if len(set(values)) == 1:
        return f"{values[0]:+.3f}"
    interval = t_interval(values)
    return f"{interval.value:+.3f} ({interval.low:+.3f} to {interval.high:+.3f})"


def draw(found: dict[str, dict[str, list[Scores]]], path: Path) -> None:
    """A panel per dial and metric; lines are means over seeds, dots the seeds."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    titles = {name: dial.title for name, dial in dials(Path()).items()}
    style: dict[Any, Any] = {"svg.hashsalt": path.stem, "font.size": 9}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(8.5, 6.0), layout="constrained")
        grid = figure.subplots(len(METRICS), len(found), squeeze=False, sharey="row")
        for column, (name, levels) in enumerate(found.items()):
            for row, (metric, label) in enumerate(METRICS.items()):
                axes = grid[row][column]
                for number, (model, shown) in enumerate(MODELS.items()):
                    places = range(len(levels))
                    values = [[s[model][metric] for s in seeds] for seeds in levels.values()]
                    colour = f"C{number}"
                    axes.plot(places, [fmean(v) for v in values], color=colour, label=shown)
                    for place, level in zip(places, values, strict=True):
                        axes.plot([place] * len(level), level, ".", color=colour, alpha=0.5)
                axes.set_xticks(range(len(levels)), list(levels))
                axes.grid(axis="y", alpha=0.3)
                axes.spines[["top", "right"]].set_visible(False)
                axes.set_ylabel(label if column == 0 else "")
                axes.set_xlabel(titles[name] if row == len(METRICS) - 1 else "")
        handles, labels = grid[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False)
        with path.open("w", encoding="utf-8") as file:
            FigureCanvasSVG(figure).print_svg(file, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tiny_world.sweep",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="worlds to run")
    parser.add_argument("--out", type=Path, default=Path("runs/sweep"), help="folder of the result")
    args = parser.parse_args()
    sys.stdout.write(table(sweep(args.seeds, args.out)))


if __name__ == "__main__":
    run_main(main)
