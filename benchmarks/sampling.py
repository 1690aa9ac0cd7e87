"""Wall time of the stage `sample` over a bare vLLM generate loop, and its memory.

Usage: python -m benchmarks.sampling [--responses 20000] [--memory 5000 25000 100000]

A tiny random Llama answers with 16 tokens, greedily, on the CPU. One process loads one engine;
the two arms take turns with it, block by block, over the same prompts:

sample: what the stage does: prompts are read from parquet, rendered to token ids, sampled by parts,
        and the parts are written.
bare:   `LLM.generate` over the same token ids, which are there already; nothing is kept.

Both arms must give the same tokens. The prefix cache is emptied before each block. The bare loop is
one call per block, and like the stage it drains the engine at the end of each block. Start-up,
which is the same for both, is counted apart.

The second part answers growing numbers of prompts with one token each, every number in a process
of its own, and tells the peak of its resident memory.
"""

import argparse
import json
import logging
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from data_construction.prompts import make_prompts
from data_construction.sampling.part_sampler import PartSampler
from wrpo.pipeline.folder import PartWriter
from wrpo.pipeline.tables import part_name, read_parquet
from wrpo.recipe import load_recipe

logger = logging.getLogger(__name__)

RESPONSES = 5
WORDS = ("sea", "hill", "moon", "tree", "bird", "rain", "sand", "leaf")


def sampler_in(folder: Path, prompts: int, *, responses: int, tokens: int) -> PartSampler:
    """A sampler of a tiny model, with its prompts made."""
    from tests.support.tiny_models import save_tiny

    shape = {"hidden_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32}
    save_tiny(folder / "model", "llama", seed=1, **shape)
    lines = [{"text": f"Say {WORDS[n % 8]} and then {n}, please."} for n in range(prompts)]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    recipe = {
        "run": "benchmark",
        "runs": str(folder / "runs"),
        "sources": {"tiny": {"model": str(folder / "model"), "dtype": "float32"}},
        "target": {"model": str(folder / "model")},
        "prompts": {"datasets": {"words": {"path": str(folder / "prompts.jsonl")}}},
        "rewards": {"none": {"type": "answer"}},
        "sample": {
            "responses": responses,
            "temperature": 0.0,
            "max_tokens": tokens,
            "max_prompt_tokens": 120,
            "engine": {"enforce_eager": True, "kv_cache_mib": 256},
        },
    }
    recipe["prompts"]["datasets"]["words"]["prompt"] = "text"  # type: ignore[index]
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    loaded = load_recipe(folder / "recipe.yaml", [])
    make_prompts(loaded)
    return PartSampler(loaded, "tiny")


def _writer(folder: Path) -> PartWriter:
    """Where both benchmarks put their parts; no stage is made of them."""
    (folder / "parts").mkdir()
    return PartWriter(folder / "parts", {})


def bare_inputs(sampler: PartSampler, parts: range) -> list[list[int]]:
    """The token ids of every request of these parts, in the order of the stage's rows."""
    from wrpo.chat.render import render_prompt

    assert sampler.tokenizer is not None
    return [
        ids
        for part in parts
        for row in sampler.prompts.read(part)
        for ids in [render_prompt(sampler.tokenizer, row["messages"])] * RESPONSES
    ]


def bare(llm: Any, inputs: list[list[int]], tokens: int, stop: list[int]) -> list[list[int]]:
    """The bare loop: the token ids of the responses."""
    from vllm import SamplingParams

    parameters = SamplingParams(temperature=0.0, max_tokens=tokens, stop_token_ids=stop)
    prompts = [{"prompt_token_ids": ids} for ids in inputs]
    outputs = llm.generate(prompts, parameters, use_tqdm=False)
    return [list(output.outputs[0].token_ids) for output in outputs]


def compare(responses: int, tokens: int, blocks: int) -> None:
    """Times both arms in turn and logs their totals."""
    from wrpo.chat.render import stop_token_ids

    with tempfile.TemporaryDirectory() as name:
        sampler = sampler_in(Path(name), responses // RESPONSES, responses=RESPONSES, tokens=tokens)
        started = time.monotonic()
        llm = sampler.engine.llm  # type: ignore[attr-defined]
        assert sampler.tokenizer is not None
        stop = stop_token_ids(sampler.tokenizer)
        logger.info("start-up, not counted below: %.1f s", time.monotonic() - started)
        writer = _writer(Path(name))
        bare(llm, bare_inputs(sampler, range(1)), tokens, stop)  # warms up
        wall, cpu = {"sample": 0.0, "bare": 0.0}, {"sample": 0.0, "bare": 0.0}
        size = -(-len(sampler.prompts) // blocks)
        for block, first in enumerate(range(0, len(sampler.prompts), size)):
            parts = range(first, min(first + size, len(sampler.prompts)))
            inputs = bare_inputs(sampler, parts)
            found: list[list[int]] = []
            for arm in ("sample", "bare") if block % 2 else ("bare", "sample"):
                llm.reset_prefix_cache()
                start, start_cpu = time.monotonic(), time.process_time()
                if arm == "sample":
                    for _ in sampler.parts(parts, writer):
                        pass
                else:
                    found = bare(llm, inputs, tokens, stop)
                wall[arm] += time.monotonic() - start
                cpu[arm] += time.process_time() - start_cpu
            written = [
                row["token_ids"]
                for part in parts
                for row in read_parquet(writer.path / part_name(part))
            ]
            assert written == found, "the arms gave different tokens"
        responses = sampler.prompts.total * RESPONSES
        for arm in wall:
            logger.info(
                "%-6s %d responses, %.1f s, %.1f CPU s", arm, responses, wall[arm], cpu[arm]
            )
        logger.info(
            "sample over bare: wall %.3f, CPU %.3f",
            wall["sample"] / wall["bare"],
            cpu["sample"] / cpu["bare"],
        )


def memory_of(prompts: int) -> None:
    """Samples one token for each of so many prompts and prints the peak memory in MiB."""
    with tempfile.TemporaryDirectory() as name:
        sampler = sampler_in(Path(name), prompts, responses=1, tokens=1)
        writer = _writer(Path(name))
        made = _peak_mib()
        sampler.engine  # noqa: B018  loads
        loaded = _peak_mib()
        for _ in sampler.parts(range(len(sampler.prompts)), writer):
            pass
        logger.info(
            "%7d prompts: peak %.0f MiB; %.0f with the engine loaded, %.0f before it",
            prompts,
            _peak_mib(),
            loaded,
            made,
        )


def _peak_mib() -> float:
    # Not getrusage: its peak starts with that of the parent process.
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--responses", type=int, default=20000, help="0 leaves this part out")
    parser.add_argument("--tokens", type=int, default=16, help="length of a response")
    parser.add_argument("--blocks", type=int, default=4, help="turns of each arm")
    parser.add_argument("--memory", type=int, nargs="*", default=[5000, 25000, 100000])
    parser.add_argument("--memory-of", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", force=True)
    logging.getLogger("wrpo").setLevel(logging.WARNING)
    if arguments.memory_of:
        memory_of(arguments.memory_of)
        return
    if arguments.responses:
        compare(arguments.responses, arguments.tokens, arguments.blocks)
    for prompts in arguments.memory:
        command = [sys.executable, "-m", "benchmarks.sampling", "--memory-of", str(prompts)]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
