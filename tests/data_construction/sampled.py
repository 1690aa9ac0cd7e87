"""Writes finished sampling stages by hand, for tests of the stages after them."""

import shutil
from collections.abc import Collection, Mapping, Sequence

from wrpo.chat.thoughts import Tags, answer_start
from wrpo.pipeline.folder import StageFolder
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.tables import RESPONSES, SCORES, Row, read_rows
from wrpo.recipe import Recipe


def prompt_ids(recipe: Recipe, split: str | None = None) -> list[str]:
    """Ids of the run's prompts, in order; only one split where it is named."""
    rows = read_rows(Pipeline(recipe).finished("prompts"))
    return [row["prompt_id"] for row in rows if split in (None, row["split"])]


def write_responses(
    recipe: Recipe,
    source: str,
    responses: Mapping[str, Sequence[str]],
    *,
    cut: Collection[int] = (),
    tags: Tags | None = None,
) -> None:
    """Makes `sample/SOURCE` hold the given texts, two prompts per part.

    Args:
        cut: indices of those that ended at max_tokens.
        tags: of the thoughts that the texts have.
    """
    rows = [
        {
            "prompt_id": prompt,
            "source": source,
            "index": index,
            "text": text,
            "token_ids": [1],
            "finish_reason": "length" if index in cut else "stop",
            "token_count": 1,
            "seed": 0,
            "logprob": None,
            "answer_start": answer_start(text, tags) if tags else None,
        }
        for prompt, texts in responses.items()
        for index, text in enumerate(texts)
    ]
    _write(recipe, f"sample/{source}", rows, RESPONSES)


def write_scores(
    recipe: Recipe,
    source: str,
    scores: Mapping[str, Sequence[float]],
    rewards: Mapping[str, Sequence[float]] | None = None,
) -> None:
    """Makes `score/SOURCE` hold the given numbers; `rewards`: per reward one value per response."""
    named = (rewards or {}).items()
    rows = [
        {
            "prompt_id": prompt,
            "source": source,
            "index": index,
            "score": score,
            "rewards": [{"name": name, "value": values[index]} for name, values in named],
        }
        for prompt, given in scores.items()
        for index, score in enumerate(given)
    ]
    _write(recipe, f"score/{source}", rows, SCORES)


def _write(recipe: Recipe, stage: str, rows: list[Row], schema: object) -> None:
    pipeline = Pipeline(recipe)
    shutil.rmtree(pipeline.folder(stage), ignore_errors=True)
    folder = StageFolder(pipeline.folder(stage), pipeline.key(stage))
    folder.open()
    prompts = sorted({row["prompt_id"] for row in rows})
    chunks = [prompts[at : at + 2] for at in range(0, len(prompts), 2)]
    for part, chunk in enumerate(chunks):
        folder.write_part(part, [row for row in rows if row["prompt_id"] in chunk], schema)
    folder.finish_parts(len(chunks))
