"""TRL's conversational rows, which are this toolkit's own.

Prompt, chosen and rejected, or prompt and completion; `source_chosen` and what is known of the
responses are further columns, which TRL leaves alone.
"""

from __future__ import annotations

from typing import Any, Literal

from wrpo.rows.formats.base import Columns, RowFormat


class TRL(RowFormat):
    """All columns as they are."""

    format: Literal["trl"] = "trl"

    def write(self, row: Columns) -> dict[str, Any]:
        """The row."""
        return dict(row)
