"""What supervised and preference training share in a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, PositiveInt

from wrpo.settings import Section

AUTO = "auto"
CPU_TOKENS = 4096
"""Tokens of a forward pass where memory is not measured; larger batches gain nothing on a CPU."""
MOST_TOKENS = 65536
"""A GPU computes larger batches no faster."""
PLANNED_SHARE = 0.9
"""Of a GPU's memory that may be planned with; the rest is for fragments."""
CAREFUL_SHARE = 0.8
"""The same where a step that does not fit cannot be computed again."""


class Lora(Section):
    """Low-rank adapters instead of full fine-tuning (PEFT's LoraConfig)."""

    r: int = Field(16, ge=1, description="Rank.")
    lora_alpha: int = Field(32, ge=1, description="Scale.")
    lora_dropout: float = Field(0.0, ge=0.0, lt=1.0, description="Dropout on adapter inputs.")
    target_modules: str | list[str] = Field("all-linear", description="Modules that get adapters.")
    quantize: Literal["nf4", "int8"] | None = Field(
        None,
        description="Keep the base weights quantised while training (QLoRA); the saved model is "
        "in full precision.",
    )


class TrainingEngine(Section):
    """How fast training runs; the global batch stays what the recipe says."""

    per_device_batch_size: PositiveInt | Literal["auto"] = Field(
        "auto",
        description="Rows per device and forward pass; auto: micro-batches of batch_tokens tokens, "
        "or one row for objectives whose loss is not a mean over rows.",
    )
    batch_tokens: int | None = Field(
        None,
        ge=1,
        description="Tokens per device and forward pass with per_device_batch_size: auto; unset: "
        f"what fits into the GPU, as measured in the first steps, and {CPU_TOKENS} on a CPU.",
    )
    attention: str | None = Field(
        "auto",
        description="auto: torch's variable-length kernel where it runs, else transformers' "
        "choice; varlen: that kernel; or a name of transformers, such as flash_attention_2.",
    )
    compile: bool = Field(
        False,
        description="Compile the layers of the model with torch.compile: fewer launches after some "
        "minutes of compilation; weights change by rounding. Not for objectives that TRL trains.",
    )
    accelerate: Path | None = Field(
        None, description="Accelerate config file; the stage then starts under accelerate launch."
    )
    processes: int | None = Field(
        None, ge=1, description="Processes to launch; unset: what the accelerate config says."
    )

    def of_rows(self) -> Self | None:
        """The same in rows, one of them unless a number is written; None where auto is written."""
        if self.per_device_batch_size != AUTO:
            return self
        if "per_device_batch_size" in self.model_fields_set:
            return None
        return self.model_copy(update={"per_device_batch_size": 1})

    @property
    def accelerate_file(self) -> Path | None:
        """The accelerate config; recipes/accelerate/... is there outside of a checkout, too."""
        from wrpo.recipe.shipped import find_file  # its package reads these settings

        return None if self.accelerate is None else find_file(self.accelerate)


class PreferenceEngine(TrainingEngine):
    """How fast preference training runs."""

    balance_micro_batches: bool = Field(
        True,
        description="Equal numbers of tokens instead of prompts per forward pass (not objective "
        "sft); the prompts of an optimizer step stay the same.",
    )


class Training(Section):
    """What SFT and preference training share."""

    global_batch_size: int = Field(128, ge=1, description="Prompts per optimizer step, over all.")
    train: dict[str, Any] = Field(default_factory=dict, description="TRL's own keys.")
    lora: Lora | None = Field(None, description="Train adapters; unset: all weights.")
    engine: TrainingEngine = Field(default_factory=TrainingEngine, description="Speed only.")
