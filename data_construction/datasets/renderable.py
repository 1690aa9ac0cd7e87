"""Whether the target's chat template can render an imported row, which nobody sampled here.

Sampled responses were rendered when they were sampled, and rows that cannot be rendered dropped.
"""

from __future__ import annotations

from wrpo.errors import DataError, TemplateError
from wrpo.pipeline.tables import ROW_RESPONSES, Drop, Row
from wrpo.recipe import Recipe
from wrpo.rows.columns import IMPORTED_FROM


class Renderable:
    """Asks the target's tokenizer.

    Raises:
        ModelError: the target's tokenizer cannot be loaded.
    """

    def __init__(self, recipe: Recipe, table: str) -> None:
        from data_construction.selection.truncation_counts import target_tokenizer

        self._tokenizer = target_tokenizer(recipe, table)
        self._names = ROW_RESPONSES.get(table, ("completion",))
        self._fold_system = recipe.target.fold_system

    def refused(self, row: Row) -> Drop | None:
        """Why the row cannot be rendered; None where it can."""
        from wrpo.chat.render import render_responses

        texts = [row[name][0]["content"] for name in self._names]
        try:
            render_responses(self._tokenizer, row["prompt"], texts, fold_system=self._fold_system)
        except (TemplateError, DataError) as error:
            return Drop("template", f"{row[IMPORTED_FROM]}: {error}")
        return None
