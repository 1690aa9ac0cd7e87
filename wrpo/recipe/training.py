"""Supervised and preference training, truncation and log-probs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import (
    Field,
    model_validator,
)

from wrpo.objectives.options import AlphaSchedule, LikelihoodOn, PreferenceLoss, loss_problem
from wrpo.objectives.reference import FusionRule
from wrpo.rows.truncation import Limits
from wrpo.settings import Section, Share


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

    per_device_batch_size: int = Field(1, ge=1, description="Rows per device and forward pass.")
    attention: str | None = Field(
        None, description="Attention kernel, e.g. flash_attention_2; unset: transformers' choice."
    )
    accelerate: Path | None = Field(
        None, description="Accelerate config file; the stage then starts under accelerate launch."
    )
    processes: int | None = Field(
        None, ge=1, description="Processes to launch; unset: what the accelerate config says."
    )


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


class SFT(Training):
    """Supervised fine-tuning of the target on the best source answers."""


class Alpha(Section):
    """The fusion coefficient: the weight of the source answer in the preferred reward."""

    start: Share = Field(0.0, description="Value at the first update.")
    end: Share = Field(0.1, description="Value at the end of training.")
    schedule: AlphaSchedule = Field(
        "linear",
        description="linear or cosine: start to end over the steps; constant: always end.",
    )


class Likelihood(Section):
    """Optional negative log-likelihood of a preferred answer, added to the preference loss."""

    weight: float = Field(0.0, ge=0.0, description="Factor of the term; 0 is off.")
    on: LikelihoodOn = Field(
        "better", description="Which preferred answer; better: the higher scored of the two."
    )


class Fusion(Section):
    """How `reference: fused` joins the initial policy and the sources (InfiFPO)."""

    rule: FusionRule = Field(
        "max_margin",
        description="max_margin: the source that differs most; average; confidence: weighted mean.",
    )
    clip: bool = Field(
        True, description="Never below the initial policy where preferred, nor above it elsewhere."
    )


class CGPO(Section):
    """Consensus-guided preference optimisation: its own weights, and those of the sources."""

    desirable_weight: float = Field(1.2, ge=0.0, description="Factor of the preferred answers.")
    undesirable_weight: float = Field(1.0, ge=0.0, description="Factor of the rejected answer.")
    warmup_start: int = Field(0, ge=0, description="Optimizer steps before that factor grows.")
    warmup_steps: int = Field(100, ge=0, description="Optimizer steps until it is there.")
    weighting: Literal["entropy", "uniform"] = Field(
        "entropy", description="entropy: sources surer than usual weigh more; uniform: all alike."
    )
    temperature: float = Field(0.8, gt=0.0, description="Softness of the sources' weights.")
    floor: float = Field(0.02, ge=0.0, lt=1.0, description="Least weight of a source.")


class Preference(Training):
    """The preference stage: WRPO, or a baseline on the same rows."""

    objective: Literal["wrpo", "dpo", "cgpo", "sft"] = Field(
        "wrpo",
        description="wrpo or cgpo on triples; dpo on (chosen, rejected); sft on the preferred one.",
    )
    data: Literal["triples", "pairs"] = Field("triples", description="Which table to train on.")
    loss: PreferenceLoss = Field(
        "sigmoid",
        description="Loss of wrpo and dpo: sigmoid; sigmoid_norm, length-normalised; hinge; ipo.",
    )
    beta: float = Field(0.01, gt=0.0, description="Scale of the implicit reward.")
    margin: float = Field(0.0, ge=0.0, description="What the scaled difference must exceed.")
    label_smoothing: float = Field(0.0, ge=0.0, lt=0.5, description="Share of flipped labels.")
    alpha: Alpha = Field(default_factory=Alpha, description="The fusion coefficient.")
    likelihood: Likelihood = Field(default_factory=Likelihood, description="Optional anchor.")
    sft_on: Literal["source_chosen", "chosen", "better"] = Field(
        "source_chosen", description="Which answer objective sft trains on."
    )
    reference: Literal["precomputed", "model", "fused", "none"] = Field(
        "precomputed",
        description="precomputed: log-probs of the SFT model from a table; model: keep it loaded; "
        "fused: of the SFT model and the sources (InfiFPO); none: reference-free.",
    )
    fusion: Fusion = Field(default_factory=Fusion, description="For reference: fused.")
    cgpo: CGPO = Field(default_factory=CGPO, description="For objective: cgpo.")
    engine: PreferenceEngine = Field(default_factory=PreferenceEngine, description="Speed only.")

    @model_validator(mode="after")
    def _fits_objective(self) -> Preference:
        if self.data == "pairs" and self.objective != "dpo":
            raise ValueError(f'data "pairs" fits objective "dpo", not "{self.objective}"')
        if self.objective == "cgpo" and self.reference != "precomputed":
            raise ValueError(f'objective "cgpo" needs reference precomputed, not {self.reference}')
        smoothing = self.label_smoothing
        if problem := loss_problem(self.loss, margin=self.margin, label_smoothing=smoothing):
            raise ValueError(problem)
        return self


class Truncation(Section):
    """How preference rows are cut, in tokens of the target; an answer that is cut has no end."""

    max_length: int = Field(
        2048, ge=2, description="Prompt plus answer; `sft.train.max_length` is by default the same."
    )
    max_prompt_length: int | None = Field(
        None, ge=2, description="The prompt; a longer one loses its start. Unset: whole."
    )
    max_answer_length: int | None = Field(
        None, ge=2, description="An answer; a longer one loses its tail. Unset: what is left."
    )
    mode: Literal["separate", "original"] = Field(
        "separate",
        description="separate: each answer by itself; original: as the authors' code, where one "
        "long answer cuts all of them.",
    )

    @property
    def limits(self) -> Limits:
        """The same, as the functions that cut take it."""
        return Limits(**self.model_dump())

    @model_validator(mode="after")
    def _leaves_tokens(self) -> Truncation:
        if problem := self.limits.problem():
            raise ValueError(problem)
        return self


class LogProbEngine(Section):
    """How fast log-probs are computed."""

    batch_tokens: int = Field(16384, ge=1, description="Tokens per forward pass.")
    attention: str | None = Field(
        None, description="Attention kernel, e.g. flash_attention_2; unset: transformers' choice."
    )


class LogProbs(Section):
    """Log-probs of the training answers under the SFT model and, where needed, the sources."""

    method: Literal["trainer", "vllm", "sampled"] = Field(
        "trainer",
        description="trainer: the training step's own pass; vllm: its prompt log-probs; sampled: "
        "those it gave while sampling (sample.target.keep_logprobs), the rest by the trainer.",
    )
    tolerance: float = Field(
        0.5,
        gt=0.0,
        description="Largest difference from the trainer's sum of an answer, in nats.",
    )
    check_answers: int = Field(8, ge=1, description="Answers compared before others are computed.")
    chunk_rows: int = Field(512, ge=1, description="Rows per part file.")
    engine: LogProbEngine = Field(default_factory=LogProbEngine, description="Speed only.")
