"""OpenRLHF's rows: messages, for `--apply_chat_template`.

Preferences are read with `--prompt_key prompt`; SFT rows, `prompt` and `response`, with
`--input_key` and `--output_key`. `source_chosen` is one more column of the same form.
"""

from __future__ import annotations

from typing import Any, Literal

from wrpo.rows.columns import TRIPLE_RESPONSES
from wrpo.rows.formats.base import Columns, RowFormat


class OpenRLHF(RowFormat):
    """Messages only."""

    format: Literal["openrlhf"] = "openrlhf"

    def read(self, row: Columns) -> dict[str, Any]:
        """`response` becomes `completion`."""
        response = {"completion": row["response"]} if "response" in row else {}
        return {"prompt": row["prompt"], **response}

    def write(self, row: Columns) -> dict[str, Any]:
        """Prompt and responses."""
        if "completion" in row:
            return {"prompt": row["prompt"], "response": row["completion"]}
        return {
            "prompt": row["prompt"],
            **{name: row[name] for name in TRIPLE_RESPONSES if name in row},
        }
