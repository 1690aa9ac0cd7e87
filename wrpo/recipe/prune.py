"""Pruning: the target made smaller before it learns."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from wrpo.settings import Section


class Prune(Section):
    """Blocks that are removed from the target, by perplexity (BlockPruner, arXiv 2406.10594)."""

    remove: int = Field(
        ge=1, description="How many blocks; with `blocks: layers`, how many layers."
    )
    blocks: Literal["both", "attention", "mlp", "layers"] = Field(
        "layers",
        description="What is removed: attention and MLP blocks, one kind of them, or whole layers. "
        "Only whole layers make the model faster everywhere.",
    )
    texts: Path | None = Field(
        None,
        description="Text file to calibrate with, an empty line between texts. Unset: the SFT rows "
        "of the run, as chats.",
    )
    calibration_tokens: int = Field(
        65536, ge=1, description="Most tokens of these texts that are read, in whole sequences."
    )
    sequence_tokens: int = Field(
        2048, ge=2, description="Texts are joined and cut into sequences of so many tokens."
    )
    batch_sequences: int = Field(8, ge=1, description="Sequences per forward pass.")
