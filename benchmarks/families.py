"""Whether `triple_layout: auto` is ever slower than padding, on every family of the tests.

Usage: python -m benchmarks.families [--only llama gemma2 ...]
       python -m benchmarks.families --device cuda

A step is forward and backward of a small random model (hidden size 256, 2 layers, windows of 256
tokens) on triples with lengths like those of UltraFeedback; both ways take turns, so that a busy
machine disturbs them alike. Padded rows get the attention that the trainer would give them. Times
are CPU seconds of the process on one thread, or seconds on the GPU's clock.

attention   what auto chose
tokens      of padded rows over those of auto
time        of padded rows over that of auto, with the least and the most of the repetitions

Exit status 1: auto was slower than padding for a family.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

SHAPE = {
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
}
WINDOW = 256


class Line(NamedTuple):
    """What auto is worth for one family; `ratios` are padded over auto, one per repetition."""

    family: str
    attention: str
    tokens: float
    ratios: list[float]
    time: float

    def text(self) -> str:
        """A line of the table."""
        cells = [f"{x:8.2f}" for x in (self.tokens, self.time, min(self.ratios), max(self.ratios))]
        return "  ".join([f"{self.family:12}", f"{self.attention:18}", *cells])


HEADER = "  ".join(
    [
        f"{'family':12}",
        f"{'attention':18}",
        *(f"{x:>8}" for x in ("tokens", "time", "least", "most")),
    ]
)


def compare(family: str, device: str, *, prompts: int, repeats: int) -> Line:
    """Steps of both ways on the same triples, in turns."""
    from accelerate import Accelerator

    from benchmarks.gpu.exactness import FAMILIES, VOCABULARY, family_model
    from benchmarks.lengths import typical_triples
    from benchmarks.meter import seconds
    from wrpo.collator import DataCollatorForWRPO, padded_layout
    from wrpo.prefix.choose import LayoutOptions, settle_layout
    from wrpo.prefix.left_out import complete_attention

    windows = {"sliding_window": WINDOW} if "sliding_window" in FAMILIES[family] else {}
    model = family_model(family, device, **SHAPE, **windows)
    usual = complete_attention(model)
    accelerator = Accelerator(cpu=device == "cpu")
    layout = settle_layout([model], LayoutOptions(trains=True), accelerator=accelerator)
    chosen = model.config._attn_implementation
    rows = random_rows(typical_triples("uf", 2, prompts // 2), VOCABULARY)
    ways = []
    for arranged, attention in ((padded_layout, usual), (layout, chosen)):
        collate: Any = DataCollatorForWRPO(pad_token_id=0, layout=arranged)
        batches = [collate(rows[at : at + 2]) for at in range(0, len(rows), 2)]
        moved = [{key: value.to(device) for key, value in b.items()} for b in batches]
        ways.append((moved, attention))
    taken = [[0.0] * repeats for _ in ways]
    for turn in range(-1, repeats):
        for place in range(len(ways[0][0])):
            for way, (batches, attention) in enumerate(ways):
                time, _ = seconds(partial(step, model, batches[place], attention), device)
                if turn >= 0:
                    taken[way][turn] += time
    tokens = [sum(batch["input_ids"].numel() for batch in batches) for batches, _ in ways]
    ratios = [padded / auto for padded, auto in zip(*taken, strict=True)]
    time = sum(taken[0]) / sum(taken[1])
    return Line(family, chosen, tokens[0] / tokens[1], ratios, time)


def step(model: Any, batch: Any, attention: str) -> None:
    """Forward and backward of the log-probs of a batch."""
    from wrpo.prefix.fused_head import fused_pass

    model.config._attn_implementation = attention
    model.zero_grad()
    fused_pass(model, batch).log_probs.sum().backward()


def random_rows(triples: Sequence[Any], vocabulary: int) -> list[dict[str, list[int]]]:
    """Triples of random tokens with these lengths."""
    import torch

    from wrpo.rows.columns import TRIPLE_RESPONSES

    generator = torch.Generator().manual_seed(0)

    def tokens(count: int) -> list[int]:
        return torch.randint(1, vocabulary, (count,), generator=generator).tolist()

    return [
        {
            "prompt_ids": tokens(prompt),
            **{f"{n}_ids": tokens(c) for n, c in zip(TRIPLE_RESPONSES, responses, strict=True)},
        }
        for prompt, responses in triples
    ]


def run(arguments: argparse.Namespace) -> Iterator[Line]:
    """The lines of the table, as soon as they are known."""
    import torch

    from benchmarks.gpu.exactness import FAMILIES

    torch.set_num_threads(1)
    for family in arguments.only or FAMILIES:
        yield compare(
            family, arguments.device, prompts=arguments.prompts, repeats=arguments.repeats
        )


def parse(command_line: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--only", nargs="+", help="families")
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3, help="measurements of every batch")
    return parser.parse_args(command_line)


def main() -> None:
    arguments = parse()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.stdout.write(f"{HEADER}\n")
    slower = []
    for line in run(arguments):
        sys.stdout.write(f"{line.text()}\n")
        sys.stdout.flush()
        slower += [line.family] * (line.time < 1)
    sys.exit(int(bool(slower)))


if __name__ == "__main__":
    main()
