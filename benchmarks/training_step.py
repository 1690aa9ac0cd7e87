"""Time, memory and tokens of a training step: shared prompts against padded rows and TRL's DPO.

Usage: python -m benchmarks.training_step [--quick]
       python -m benchmarks.training_step --device cuda --shape 8b --checkpointing

A step is forward and backward of the policy and forward of the reference. All arms (see
`benchmarks.arms`) make the steps of the same triples in one process, interleaved, so that a busy
machine disturbs them alike. Lengths are typical of three kinds of data sets (`benchmarks.lengths`),
tokens random. Times are CPU seconds of the process on one thread, or seconds on the GPU's clock.

tokens      computed in all batches, padding included; "analytic": according to the lengths alone
s/prompt    seconds of a step per prompt
ratios      padded over this arm: tokens, time (with the least and the most of the repetitions)
            and saved activations
tokens/s    tokens of prompts and responses per second, counted as if nothing were padded or shared
saved MB    activations kept for the backward pass, all batches added up
GFLOP/s     arithmetic of the computed tokens per second (recomputation and the masked half of
            attention do not count), and its share of the device's dense bfloat16 peak
peak GB     the most memory that the GPU held at once

The LM head projects response tokens only, which is what TRL's does on a GPU. `--lm-head all` lets
it project every position of padded rows on a CPU, which is what TRL's does there; the arm trl is
TRL's own step, so on a CPU it always does.
"""

import argparse
import itertools
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from benchmarks.arms import Arm, Bench

HEADER = (
    *("lengths", "arm", "tokens", "analytic", "ratio", "s/prompt", "ratio", "least", "most"),
    *("tokens/s", "saved MB", "ratio", "GFLOP/s", "of peak", "peak GB"),
)


class Setting(NamedTuple):
    """A kind of lengths, prompts per batch, number of batches."""

    kind: str
    size: int
    batches: int


@dataclass
class Result:
    """What one arm costs; `seconds` has one entry per repetition, over all batches."""

    arm: "Arm"
    seconds: list[float]
    saved_bytes: int = 0
    peak_bytes: int = 0


def settings(arguments: argparse.Namespace) -> list[Setting]:
    """UltraFeedback-like lengths at 2 and 4 prompts per batch, long and short prompts at 2."""
    if arguments.quick:
        return [Setting("uf", 2, 1), Setting("short", 2, 1)]
    prompts = arguments.prompts or (4 if arguments.device == "cpu" else 32)
    kinds = (("uf", 2), ("uf", 4), ("long", 2), ("short", 2))
    return [Setting(kind, size, max(1, prompts // size)) for kind, size in kinds]


def measure(bench: "Bench", names: Sequence[str], setting: Setting, repeats: int) -> list[Result]:
    """Every arm on every batch, interleaved, `repeats` times after a first time to warm up."""
    from benchmarks.lengths import typical_triples
    from benchmarks.meter import saved_bytes, seconds

    triples = typical_triples(*setting)
    results = [Result(bench.arm(name, triples, setting.size), [0.0] * repeats) for name in names]
    for turn in range(-1, repeats):
        for place in range(setting.batches):
            for result in results:
                if turn < 0:
                    forward = partial(bench.forward, result.arm, place)
                    result.saved_bytes += saved_bytes(forward, bench.policy.parameters())
                    if bench.device != "cpu":  # where the first backward pass loads kernels
                        bench.step(result.arm, place)
                    continue
                time, memory = seconds(partial(bench.step, result.arm, place), bench.device)
                result.seconds[turn] += time
                result.peak_bytes = max(result.peak_bytes, memory)
    return results


def table_row(setting: Setting, result: Result, padded: Result, bench: "Bench") -> list[str]:
    """One line of the table; the order is that of HEADER."""
    from benchmarks.shapes import peak, step_operations

    arm, total = result.arm, sum(result.seconds)
    ratios = [a / b for a, b in zip(padded.seconds, result.seconds, strict=True)]
    operations = step_operations(
        bench.shape, tokens=arm.tokens, scored=arm.scored, pairs=arm.attention_pairs
    )
    repeats, rate = len(ratios), operations * len(ratios) / total
    most = peak(bench.device)
    return [
        f"{setting.kind}, {setting.size} per batch",
        arm.name,
        f"{arm.tokens}",
        f"{arm.expected}",
        f"{padded.arm.tokens / arm.tokens:.2f}",
        f"{total / repeats / (setting.size * setting.batches):.3g}",
        f"{sum(padded.seconds) / total:.2f}",
        f"{min(ratios):.2f}",
        f"{max(ratios):.2f}",
        f"{arm.real * repeats / total:.0f}",
        f"{result.saved_bytes / 1e6:.0f}",
        f"{padded.saved_bytes / result.saved_bytes:.2f}",
        f"{rate / 1e9:.0f}",
        f"{rate / most:.1%}" if most else "-",
        f"{result.peak_bytes / 1e9:.1f}" if result.peak_bytes else "-",
    ]


def line(cells: Sequence[str]) -> str:
    """A line of the table; the first two columns are words, the others numbers."""
    words = f"{cells[0]:18}  {cells[1]:7}"
    return "  ".join([words, *(cell.rjust(8) for cell in cells[2:])])


def parse(command_line: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one repetition of two small batches")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--shape", choices=["tiny", "0.5b", "1.5b", "8b"], default="tiny")
    parser.add_argument("--layers", type=int, help="layers, if not those of the shape")
    parser.add_argument("--prompts", type=int, help="prompts per kind of lengths (4, GPU: 32)")
    parser.add_argument("--repeats", type=int, default=2, help="measurements of every batch")
    parser.add_argument("--lm-head", choices=["scored", "all"], default="scored")
    parser.add_argument(
        "--attention",
        choices=["sdpa", "varlen", "varlen everywhere", "flash"],
        default="sdpa",
        help="of packed rows: sdpa in a loop, torch's varlen (everywhere: padded rows too), or "
        "flash-attn in all arms",
    )
    parser.add_argument("--checkpointing", action="store_true", help="recompute activations")
    return parser.parse_args(command_line)


def run(arguments: argparse.Namespace) -> Iterator[list[str]]:
    """The lines of the table without its header, as soon as they are known."""
    import torch
    from datasets import disable_progress_bars

    from benchmarks.arms import Bench
    from benchmarks.shapes import SHAPES

    disable_progress_bars()
    torch.set_num_threads(1)
    bench = Bench(
        SHAPES[arguments.shape].with_layers(arguments.layers),
        device=arguments.device,
        attention=arguments.attention,
        checkpointing=arguments.checkpointing,
        lm_head=arguments.lm_head,
    )
    names = ["padded", "packed", "shared", "trl"]
    if arguments.device != "cpu":
        names.insert(1, "grouped")
    for setting in settings(arguments):
        repeats = 1 if arguments.quick else arguments.repeats
        results = measure(bench, names, setting, repeats)
        yield from (table_row(setting, result, results[0], bench) for result in results)


def main() -> None:
    arguments = parse()
    # OpenMP reads it once, when torch is imported.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for cells in itertools.chain([HEADER], run(arguments)):
        sys.stdout.write(f"{line(cells)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
