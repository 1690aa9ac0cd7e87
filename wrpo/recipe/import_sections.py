"""The `build.imported:` part of the recipe: training tables that others have made."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from wrpo.recipe.prompt_sections import Dataset
from wrpo.recipe.section import Section, Share

ColumnName = Literal[
    "prompt",
    "completion",
    "source_chosen",
    "chosen",
    "rejected",
    "score",
    "source_chosen_score",
    "chosen_score",
    "rejected_score",
    "source",
    "source_chosen_source",
    "chosen_source",
    "rejected_source",
]


class ImportedTable(Dataset):
    """A published or exported training table; columns are told by their names and values."""

    columns: dict[ColumnName, str] = Field(
        default_factory=dict, description="Where a name is not told: ours to that of the data."
    )
    limit: int | None = Field(None, ge=1, description="Only the first rows.")
    max_dropped_share: Share = Field(0.2, description="The stage stops above this share.")


class Imported(Section):
    """Tables that are imported instead of built from scored answers."""

    sft: ImportedTable | None = Field(None, description="Prompts and one answer each.")
    triples: ImportedTable | None = Field(
        None, description="source_chosen, chosen, rejected; or chosen = [y_ws, y_wt]."
    )
    pairs: ImportedTable | None = Field(None, description="chosen and rejected.")

    def tables(self) -> dict[str, ImportedTable]:
        """Those that are imported, by name."""
        named = {"sft": self.sft, "triples": self.triples, "pairs": self.pairs}
        return {name: table for name, table in named.items() if table is not None}
