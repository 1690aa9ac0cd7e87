"""The text of a first recipe: what is usual for a small run, with a comment where to change it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from wrpo.start.answers import VERIFIERS, Answers

_STEPS = 12
"""Optimizer steps that a small run should have at least, so that it learns something."""

_TEXT = """\
# Made by `wrpo init`. docs/recipe.md has every field; `key=value` behind a command changes one.
# Next: wrpo doctor --recipe {file}

run: {run}                # runs/{run} holds all that is made
seed: 42

# The teachers. Any model with a chat template; its vocabulary may be another one.
sources:
{sources}

# The model that learns. An instruct model: it starts from what it can say already.
target: {{model: {target}}}

prompts:
  datasets:
    mine:
      path: {prompts}
      prompt: {prompt}
{reference}  sft_share: 0.3333          # a third teaches by imitation, the rest by preferences

sample:
  responses: 4              # of each source to each prompt; more is better and costs as much
  temperature: 0.8
  max_tokens: {max_tokens}  # longest response; what is cut here is never preferred
  max_prompt_tokens: {max_prompt_tokens}
  target: {{responses: 4}}
  engine: {engine}

# What makes a response good. Several rewards add up by their weights.
rewards:
{rewards}

sft:
  global_batch_size: {batch}     # prompts per step
  train:
    learning_rate: 1e-5     # 7e-6 for 8 B parameters, 1e-4 for 0.1 B
    num_train_epochs: 2
    lr_scheduler_type: cosine
    warmup_steps: 0.1
  engine: {{per_device_batch_size: auto}} # as many tokens as fit

truncation: {{max_length: {max_length}}} # prompt and response

wrpo:
  global_batch_size: {batch}
  beta: 0.1                 # 0.01 for responses of hundreds of tokens, 1 for those of ten
  alpha: {{end: 0.5, schedule: linear}}
  likelihood: {{weight: 1.0, on: better}}
  train:
    learning_rate: 1e-6     # a tenth of that of SFT
    num_train_epochs: 1
    lr_scheduler_type: cosine
    warmup_steps: 0.1
  engine: {{per_device_batch_size: auto}}

# Trained on the same rows, to compare with: what does each part of the method bring?
arms:
  dpo: {{objective: dpo, likelihood: {{weight: 0.0}}}}
  more-sft: {{objective: sft, sft_on: source_chosen}}

# Tasks of lm-eval by name; with more of your own beside them (docs/adding-a-benchmark.md).
eval:
{evaluation}
"""


_NO_TASK = (
    "  tasks: []                 # e.g. [ifeval, gsm8k_boxed]; without one there is no report"
)
_OWN_TASK = """\
  tasks: [{name}]           # prompts that were held out
  include_path: {folder}
  metrics: [acc]"""


def recipe_text(answers: Answers, file: str, *, gpu: bool, tasks: str | None = None) -> str:
    """A recipe as YAML with comments.

    Args:
        tasks: folder of the task that `hold_out` has written, if it has.
        file: where it will be, for the commands in it.
        gpu: whether this machine has one; without, transformers draws the responses.
    """
    batch = batch_size(answers.rows)
    sources = (f"  {name}: {{model: {_quoted(model)}}}" for name, model in answers.sources.items())
    reference = ""
    if answers.reference_answer is not None:
        reference = f"      reference_answer: {_quoted(answers.reference_answer)}\n"
    return _TEXT.format(
        file=file,
        run=answers.run,
        sources="\n".join(sources),
        target=_quoted(answers.target),
        prompts=_quoted(answers.prompts),
        prompt=_quoted(answers.prompt),
        reference=reference,
        **_lengths(answers, max_tokens=512 if gpu else 128),
        engine="{backend: vllm}" if gpu else "{backend: transformers, max_num_seqs: 16}",
        rewards=_reward(answers.reward),
        evaluation=_OWN_TASK.format(name=answers.run, folder=_quoted(tasks)) if tasks else _NO_TASK,
        batch=batch,
    )


def _lengths(answers: Answers, *, max_tokens: int) -> dict[str, int]:
    """Tokens of prompts, responses and both, within what every model that is a folder takes."""
    contexts = [
        length
        for model in (answers.target, *answers.sources.values())
        if (length := _context(Path(model))) is not None
    ]
    context = min(contexts, default=sys.maxsize)
    max_tokens = min(max_tokens, context // 4)
    return {
        "max_tokens": max_tokens,
        "max_prompt_tokens": min(1024, context - max_tokens),
        "max_length": min(2048, context),
    }


def _context(folder: Path) -> int | None:
    """What config.json of a model says; a model of the hub is not asked."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    text = config.get("text_config", config)
    found = text.get("max_position_embeddings") if isinstance(text, dict) else None
    return found if isinstance(found, int) else None


def batch_size(rows: int | None) -> int:
    """Prompts per step: 128 as in the papers, fewer where there are too few for some steps.

    >>> batch_size(200)
    8
    """
    if rows is None:
        return 128
    most = max(1, rows // (2 * _STEPS))
    return min(128, 2 ** (most.bit_length() - 1))


def _reward(reward: str) -> str:
    if reward in VERIFIERS:
        return f"  correct: {{type: {reward}}}"
    return f"  taste: {{type: classifier, model: {_quoted(reward)}}}"


def _quoted(text: str) -> str:
    """As YAML; plain where that says the same."""
    return text if all(sign.isalnum() or sign in "/._-" for sign in text) else json.dumps(text)
