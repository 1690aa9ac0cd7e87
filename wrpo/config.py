"""Training options of WRPO: TRL's own, plus what three responses need."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from trl import DPOConfig

from wrpo.errors import RecipeError
from wrpo.objectives.options import (
    LIKELIHOOD_TARGETS,
    LOSSES,
    SCHEDULES,
    check_loss,
    check_unit_interval,
)
from wrpo.rows.columns import RESPONSES
from wrpo.rows.truncation import MODES, Limits

OBJECTIVES = ("wrpo", "dpo", "cgpo")
LAYOUTS = ("auto", "prefix", "padded")

# Options of the parent class that this trainer does not honour: name, the only value let through,
# and what to do instead.
_UNSUPPORTED: tuple[tuple[str, Any, str], ...] = (
    ("loss_weights", None, "weigh the likelihood term with likelihood_weight"),
    ("ld_alpha", None, "use TRL's DPOTrainer for length-desensitised DPO"),
    ("f_divergence_type", "reverse_kl", "use TRL's DPOTrainer for other divergences"),
    ("f_alpha_divergence_coef", 0.5, "use TRL's DPOTrainer for other divergences"),
    ("discopop_tau", 0.05, "use TRL's DPOTrainer for DiscoPOP"),
    ("use_weighting", False, "use TRL's DPOTrainer for WPO weighting"),
    ("padding_free", False, "leave it out: TRL pads all the same"),
    ("truncation_mode", "keep_start", "leave it out: the tail of a too long answer is cut"),
    ("use_liger_kernel", False, "set model_init_kwargs: {use_kernels: true}"),
    ("sync_ref_model", False, "leave it out: the reference stays the starting point"),
    ("pad_token", None, "set tokenizer.pad_token and pass the tokenizer as processing_class"),
    ("label_smoothing_factor", 0.0, "set label_smoothing"),
)


@dataclass
class WRPOConfig(DPOConfig):
    """Options of `WRPOTrainer`: those of `trl.DPOConfig`, with its defaults, and the ones below.

    objective: "wrpo" uses all three responses. "dpo" uses (chosen, rejected) and ignores alpha and
        source_chosen, which is not even forwarded unless the likelihood term reads it. "cgpo"
        attracts source_chosen and chosen and repels rejected, each by itself, and reads a fourth
        response: `anchor`, an answer to another prompt. `wrpo.objectives` has them all.
    loss_type: loss of the difference between preferred and rejected, in TRL's names: "sigmoid",
        "sigmoid_norm" (length-normalised), "hinge" or "ipo"; one of them. Not for cgpo.
    margin: what the scaled difference must exceed (gamma of SimPO, which is loss_type
        "sigmoid_norm" with reference_free and a margin). Zero for ipo and cgpo.
    reference_free: leave the reference out of the implicit rewards.
    alpha: weight of the source response in the preferred reward, in [0, 1].
    alpha_start: weight at the first update, for a schedule that moves.
    alpha_schedule: "linear" and "cosine" move from `alpha_start` to `alpha` over the optimizer
        steps, "constant" is `alpha` throughout. Evaluation always uses `alpha` itself, so that its
        losses compare over time.
    desirable_weight, undesirable_weight: factors of the two sides of cgpo.
    undesirable_warmup_start, undesirable_warmup_steps: the undesirable side grows from 0 to its
        weight over so many optimizer steps, after so many.
    likelihood_weight: weight of the mean negative log-likelihood per token that is added to the
        preference loss; 0 leaves the term out.
    likelihood_on: response the likelihood term reads. "better" is the higher scored of
        source_chosen and chosen in each row (columns source_chosen_score and chosen_score; chosen
        on ties); "both" is the mean of the two terms, whatever alpha is.
    max_length: most tokens of prompt and answer together (TRL's field). A longer answer loses its
        tail, and with it its end-of-turn token; a prompt that leaves no room drops the row.
    max_prompt_length: most tokens of the prompt; a longer one loses tokens at its start, after the
        BOS token. None keeps prompts whole.
    max_answer_length: most tokens of an answer. None leaves it what the prompt leaves of
        `max_length`.
    truncation: "separate" cuts each answer by itself, "original" as the authors' public code does:
        one long answer cuts all three to `max_length - max_prompt_length` (see
        `wrpo.rows.truncation`).
    fold_system: write a system message into the first user turn, for templates without system role.
    triple_layout: "padded" forwards one padded row per response. "prefix" forwards each prompt once
        for all its responses, without padding; log-probs and gradients are the same to rounding.
        (A Gemma-2 loaded with sdpa differs: transformers leaves its softcap out, prefix applies it;
        give the reference model the same layout.) "auto" is prefix where the model can, which a
        trial on two triples tells, and else padded with the reason in the log.
    packed_row_tokens: most tokens of a row in the prefix layout; None puts the batch into one row.
    balance_micro_batches: the micro-batches of an optimizer step hold about equal numbers of tokens
        instead of equal numbers of prompts. The prompts of the step stay the same, and so do the
        weights to rounding. Ignored in the padded layout, for streamed data sets, and when
        train_sampling_strategy is set.

    Raises:
        RecipeError: a value is out of range, or an option of `DPOConfig` is set that this trainer
            does not honour.
    """

    alpha: float = field(
        default=0.1, metadata={"help": "Weight of the source response, in [0, 1]."}
    )
    alpha_start: float = field(default=0.0, metadata={"help": "Weight at the first update."})
    alpha_schedule: str = field(
        default="linear",
        metadata={"help": "How alpha moves over the optimizer steps.", "choices": list(SCHEDULES)},
    )
    objective: str = field(
        default="wrpo",
        metadata={
            "help": "Preference objective; dpo ignores source_chosen.",
            "choices": list(OBJECTIVES),
        },
    )
    margin: float = field(
        default=0.0, metadata={"help": "What the scaled difference of rewards must exceed."}
    )
    reference_free: bool = field(
        default=False, metadata={"help": "Leave the reference out of the implicit rewards."}
    )
    desirable_weight: float = field(default=1.2, metadata={"help": "Factor of that side of cgpo."})
    undesirable_weight: float = field(
        default=1.0, metadata={"help": "Factor of that side of cgpo."}
    )
    undesirable_warmup_start: int = field(
        default=0, metadata={"help": "Optimizer steps before that side of cgpo starts to grow."}
    )
    undesirable_warmup_steps: int = field(
        default=100, metadata={"help": "Optimizer steps until that side of cgpo has its weight."}
    )
    likelihood_weight: float = field(
        default=0.0, metadata={"help": "Weight of the likelihood term; 0 leaves it out."}
    )
    likelihood_on: str = field(
        default="source_chosen",
        metadata={
            "help": "Response the likelihood term reads.",
            "choices": list(LIKELIHOOD_TARGETS),
        },
    )
    max_prompt_length: int | None = field(
        default=None, metadata={"help": "Most tokens of the prompt; None keeps prompts whole."}
    )
    max_answer_length: int | None = field(
        default=None, metadata={"help": "Most tokens of an answer; None: what max_length leaves."}
    )
    truncation: str = field(
        default="separate",
        metadata={"help": "How rows over the limits are cut.", "choices": list(MODES)},
    )
    fold_system: bool = field(
        default=False, metadata={"help": "Write a system message into the first user turn."}
    )
    triple_layout: str = field(
        default="auto",
        metadata={"help": "How tokens of a batch are arranged.", "choices": list(LAYOUTS)},
    )
    packed_row_tokens: int | None = field(
        default=None, metadata={"help": "Most tokens of a row in the prefix layout."}
    )
    balance_micro_batches: bool = field(
        default=True,
        metadata={"help": "Give micro-batches equal numbers of tokens instead of prompts."},
    )

    def __post_init__(self) -> None:
        self._refuse_unsupported()
        self._check_values()
        super().__post_init__()

    @property
    def responses(self) -> tuple[str, ...]:
        """Responses each step has to forward, in batch order."""
        if self.objective == "cgpo":
            return (*RESPONSES, "anchor")
        if self.objective == "wrpo" or self._likelihood_reads_source:
            return RESPONSES
        return ("chosen", "rejected")

    @property
    def loss(self) -> str:
        """The one entry of `loss_type`."""
        return self.loss_type if isinstance(self.loss_type, str) else self.loss_type[0]

    @property
    def limits(self) -> Limits:
        """What rows are cut to."""
        return Limits(
            self.max_length, self.max_prompt_length, self.max_answer_length, self.truncation
        )

    @property
    def _likelihood_reads_source(self) -> bool:
        return self.likelihood_weight > 0 and self.likelihood_on != "chosen"

    @property
    def needs_scores(self) -> bool:
        """Whether rows must carry source_chosen_score and chosen_score."""
        return self.likelihood_weight > 0 and self.likelihood_on == "better"

    def _refuse_unsupported(self) -> None:
        for name, honoured, way_out in _UNSUPPORTED:
            value = getattr(self, name, honoured)
            if value != honoured:
                raise RecipeError(
                    f"{name} is {value!r}, which WRPOTrainer does not support; {way_out}"
                )

    def _check_values(self) -> None:
        _check_choice("alpha_schedule", self.alpha_schedule, SCHEDULES)
        _check_choice("objective", self.objective, OBJECTIVES)
        _check_choice("likelihood_on", self.likelihood_on, LIKELIHOOD_TARGETS)
        _check_choice("truncation", self.truncation, MODES)
        _check_choice("triple_layout", self.triple_layout, LAYOUTS)
        check_unit_interval("alpha", self.alpha)
        check_unit_interval("alpha_start", self.alpha_start)
        self._check_loss()
        if not self.beta > 0:
            raise RecipeError(f"beta is {self.beta}; it must be positive")
        if not self.likelihood_weight >= 0:
            raise RecipeError(
                f"likelihood_weight is {self.likelihood_weight}; it must be 0 or more"
            )
        self._check_lengths()

    def _check_loss(self) -> None:
        if not isinstance(self.loss_type, str) and len(self.loss_type) != 1:
            raise RecipeError(f"loss_type is {self.loss_type}; choose one of {', '.join(LOSSES)}")
        check_loss(self.loss, margin=self.margin, label_smoothing=self.label_smoothing)
        if self.objective != "cgpo":
            return
        for name, needed in (
            ("loss", "sigmoid"),
            ("margin", 0.0),
            ("label_smoothing", 0.0),
            ("reference_free", False),
        ):
            if getattr(self, name) != needed:
                raise RecipeError(
                    f"{name} is set, which objective cgpo does not have; leave it out"
                )

    def _check_lengths(self) -> None:
        if problem := self.limits.problem():
            raise RecipeError(problem)
        if self.packed_row_tokens is not None and self.packed_row_tokens < 2:
            raise RecipeError(
                f"packed_row_tokens is {self.packed_row_tokens}; it must be 2 or more, or null for "
                "no limit"
            )


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise RecipeError(f"{name} is {value!r}; choose one of {', '.join(choices)}")
