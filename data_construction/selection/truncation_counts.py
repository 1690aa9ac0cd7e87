"""What truncation will do to the rows of a table, counted when the table is built.

The table does not depend on it: rows are cut when log-probs are computed and when an arm trains. So
the key of the build stage has none of this, and the counts carry the limits and the template that
they are of.
"""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import Any

from wrpo.errors import ModelError
from wrpo.pipeline.tables import Row
from wrpo.recipe import Recipe

_COUNTED = ("cut_tokens", "cut_equal", "rejected_ids")

logger = logging.getLogger(__name__)


def count_truncated(recipe: Recipe, table: str, rows: list[Row]) -> dict[str, Any]:
    """Rows that lose prompt or response tokens, and rows that are not trained on because they are
    left no response or equal ones, by the target's tokenizer.

    Returns:
        limits, template (hash), rows, rows_cut, cut (rows by prompt and response name), dropped
        and equal.

    Raises:
        ModelError: the target's tokenizer cannot be loaded.
        TemplateError: its template cannot render a row.
    """
    from tqdm import tqdm

    from wrpo.chat.template import template_hash
    from wrpo.rows.columns import TRIPLE_RESPONSES
    from wrpo.rows.prepare import prepare_row
    from wrpo.rows.token_ids import RowSettings
    from wrpo.rows.truncation import count_cuts

    tokenizer = target_tokenizer(recipe, table)
    limits = recipe.truncation.limits
    responses = tuple(name for name in TRIPLE_RESPONSES if name in rows[0])
    settings = RowSettings(responses, limits, fold_system=recipe.target.fold_system)
    read = []
    for row in tqdm(rows, unit="row", desc=f"build/{table}: truncation"):
        prepared = prepare_row(row, tokenizer=tokenizer, settings=settings)
        read.append({name: prepared[name] for name in _COUNTED})
    counts = count_cuts(read, ("prompt", *responses))
    for line in counts.describe(f"build/{table}", limits):
        logger.warning("%s", line)
    return {"limits": asdict(limits), "template": template_hash(tokenizer), **asdict(counts)}


def target_tokenizer(recipe: Recipe, table: str) -> Any:
    """The target's tokenizer, before SFT.

    Raises:
        ModelError: it cannot be loaded.
    """
    from wrpo.chat.tokenizer import load_chat_tokenizer

    try:
        return load_chat_tokenizer(recipe.target.model, recipe.target)
    except ModelError as error:
        raise ModelError(
            f"build/{table} renders rows for the target and counts what truncation cuts. {error}"
        ) from error
