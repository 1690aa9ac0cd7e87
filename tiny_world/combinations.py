"""Two combinations: a router of sources before WRPO, and a pruned target under WRPO.

Run:     python -m tiny_world.combinations --seeds 1 2 3 4 5
Resume:  the same command again; finished stages stay
Writes:  runs/combination-*; runs/combinations/ gets combinations.json and combinations.md

Router: learned from 200 prompts that all sources answer; then every prompt asks one source. That is
half the responses of the demo, whose every prompt asks three. The control spends the same half
without a router, on one response of each source instead of two.

Pruned target: four layers, of which the search removes two before SFT, against the demo's target,
which has two from the start and was trained in the same way.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tiny_world.demo import call_module, demo_overrides, make_world
from tiny_world.sweep import METRICS, Scores, mean_difference, mean_scores, run_level
from wrpo.cli import run_main

logger = logging.getLogger(__name__)

LEARNING_PROMPTS = 200
"""3 sources x 200 + 1 source x 1,200 = half of 3 sources x 1,200."""
PRUNE = "{remove: 2, blocks: layers, sequence_tokens: 128, calibration_tokens: 16384}"
ROWS = {
    "demo": "all sources asked",
    "router": "router, half the responses",
    "half": "no router, half the responses",
    "pruned": "four layers pruned to two",
    "deep": "four layers, not pruned",
}
SHOWN = ("sft", "wrpo", "more-sft-better")


def run_seed(seed: int) -> dict[str, Scores]:
    """All runs of one seed.

    Raises:
        StageError: a part of one failed.
    """
    world = make_world(seed)
    runs = {name: Path("runs") / f"combination-{seed}-{name}" for name in ROWS}
    found = {"demo": run_level(seed, world, runs["demo"], [])}
    router = learned_router(seed, world)
    route = [f"sample.router={{file: {router}, per_prompt: 1}}"]
    found["router"] = run_level(seed, world, runs["router"], route)
    found["half"] = run_level(seed, world, runs["half"], ["sample.responses=1"])
    deep = make_world(seed, target_layers=4)
    for name, changes in (("pruned", [f"prune={PRUNE}"]), ("deep", [])):
        changes = [f"reuse={runs['demo'].name}", f"target.model={deep / 'target'}", *changes]
        found[name] = run_level(seed, world, runs[name], changes)
    return found


def learned_router(seed: int, world: Path) -> Path:
    """The router's file, learned from the first prompts of a world.

    Raises:
        StageError: a part of it failed.
    """
    run = Path("runs") / f"combination-{seed}-learning"
    limit = "prompts.datasets.fusion"
    overrides = [
        *demo_overrides(seed, world)[1:],
        f"run={run.name}",
        f"{limit}.limit={LEARNING_PROMPTS}",
        f"{limit}.expected_prompts={LEARNING_PROMPTS}",
    ]
    for module, *flags in (
        ("data_construction.prompts",),
        ("data_construction.sample", "--source", "all"),
        ("data_construction.score", "--source", "all"),
        ("wrpo.routing", "--out", str(run / "router.json")),
    ):
        call_module(module, *flags, "--recipe", "demo", *overrides)
    return run / "router.json"


def table(found: Mapping[str, Sequence[Scores]]) -> str:
    """Markdown: accuracy and reward after SFT and WRPO, and the difference to the demo.

    Args:
        found: by row of the table, one entry per seed.
    """
    head = ["run", *(f"{model}: accuracy, reward" for model in SHOWN), "WRPO against the demo's"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name, seeds in found.items():
        cells = [mean_scores(seeds, model) for model in SHOWN]
        pairs = list(zip(seeds, found["demo"], strict=True))
        differences = [
            mean_difference([own["wrpo"][metric] - demo["wrpo"][metric] for own, demo in pairs])
            for metric in METRICS
        ]
        against = "" if name == "demo" else ", ".join(differences)
        lines.append(f"| {' | '.join([ROWS[name], *cells, against])} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tiny_world.combinations",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5], help="worlds")
    args = parser.parse_args()
    found: dict[str, list[Scores]] = {name: [] for name in ROWS}
    out = Path("runs") / "combinations"
    out.mkdir(parents=True, exist_ok=True)
    for seed in args.seeds:
        for name, scores in run_seed(seed).items():
            found[name].append(scores)
        (out / "combinations.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
        (out / "combinations.md").write_text(table(found), encoding="utf-8")
    sys.stdout.write(table(found))


if __name__ == "__main__":
    run_main(main)
