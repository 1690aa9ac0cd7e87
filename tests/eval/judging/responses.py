"""Finished responses to judged benchmarks, without a model."""

from __future__ import annotations

from typing import Any

from wrpo.pipeline.folder import StageFolder
from wrpo.pipeline.pipeline import Pipeline
from wrpo.recipe import Recipe


def response(recipe: Recipe, benchmark: str, model: str, text: str = "It is so. ") -> None:
    """Finished responses of a model, as `eval.generate` writes them."""
    from eval.judging.answering import ANSWERED

    pipeline = Pipeline(recipe)
    stage = f"responses/{benchmark}/{model}"
    folder = StageFolder(pipeline.folder(stage), pipeline.key(stage))
    assert not folder.open()
    rows: list[dict[str, Any]] = [
        {
            "question_id": question.id,
            "number": question.number,
            "category": question.category,
            "questions": list(question.turns),
            "responses": [text * (1 + question.number) for _ in question.turns],
            "tokens": [10 for _ in question.turns],
            "temperature": 0.0,
        }
        for question in recipe.eval.judged[benchmark].load_questions()
    ]
    folder.finish_parts(folder.write_table(rows, ANSWERED))
