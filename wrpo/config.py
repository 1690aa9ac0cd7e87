"""Training options of WRPO: TRL's own, plus what three responses need."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError
from trl import DPOConfig

from wrpo.errors import RecipeError
from wrpo.objectives.base import ObjectiveSettings
from wrpo.objectives.options import LIKELIHOOD_TARGETS, LOSSES, SCHEDULES
from wrpo.rows.truncation import MODES, TokenLimits
from wrpo.settings import kinds_in

TRAINER_OBJECTIVES = {
    name: kind
    for name, kind in kinds_in("wrpo.objectives", ObjectiveSettings, tag="objective").items()
    if kind.config == "WRPOConfig"
}
_DEFAULTS: dict[str, Any] = {
    option: value
    for kind in TRAINER_OBJECTIVES.values()
    for option, value in kind().trainer_options().items()
}
"""The options of all objectives with the defaults of their settings."""
TRIPLE_LAYOUTS = ("auto", "prefix", "padded")

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
    ("truncation_mode", "keep_start", "leave it out: the tail of a too long response is cut"),
    ("use_liger_kernel", False, "set model_init_kwargs: {use_kernels: true}"),
    ("sync_ref_model", False, "leave it out: the reference stays the starting point"),
    ("pad_token", None, "set tokenizer.pad_token and pass the tokenizer as processing_class"),
    ("label_smoothing_factor", 0.0, "set label_smoothing"),
)


def _option(name: str, text: str, **more: Any) -> Any:
    """An option of an objective, with the default of its settings."""
    return field(default=_DEFAULTS[name], metadata={"help": text, **more})


@dataclass
class WRPOConfig(DPOConfig):
    """Options of `WRPOTrainer`: those of `trl.DPOConfig`, with its defaults, and the ones below.

    objective: "wrpo" uses all three responses. "dpo" uses (chosen, rejected); source_chosen is not
        even forwarded unless the likelihood term reads it. "cgpo"
        attracts source_chosen and chosen and repels rejected, each by itself, and reads a fourth
        response: `anchor`, a response to another prompt. `wrpo.objectives` has them all.
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
    max_length: most tokens of prompt and response together (TRL's field). A longer response loses
        its tail, and with it its end-of-turn token; a prompt that leaves no room drops the row.
    max_prompt_length: most tokens of the prompt; a longer one loses tokens at its start, after the
        BOS token. None keeps prompts whole.
    max_response_length: most tokens of a response. None leaves it what the prompt leaves of
        `max_length`.
    truncation: "separate" cuts each response by itself, "original" as the authors' public code
        does: one long response cuts all three to `max_length - max_prompt_length` (see
        `wrpo.rows.truncation`).
    fold_system: write a system message into the first user turn, for templates without system role.
    triple_layout: "padded" forwards one padded row per response. "prefix" forwards each prompt once
        for all its responses, without padding; log-probs and gradients are the same to rounding.
        (A Gemma-2 loaded with sdpa differs: transformers leaves its softcap out, prefix applies it;
        give the reference model the same layout.) "auto" is prefix where the model can, which a
        trial on two triples agrees, and else padded with the reason in the log.
    packed_row_tokens: most tokens of a row in the prefix layout; None puts the batch into one row.
    balance_micro_batches: the micro-batches of an optimizer step hold about equal numbers of tokens
        instead of equal numbers of prompts. The prompts of the step stay the same, and so do the
        weights to rounding. Ignored in the padded layout, for streamed data sets, and when
        train_sampling_strategy is set.

    Raises:
        RecipeError: a value is out of range, or an option of `DPOConfig` is set that this trainer
            does not honour.
    """

    beta: float = _option("beta", "Scale of the reward.")
    alpha: float = _option("alpha", "Weight of the source response, in [0, 1].")
    alpha_start: float = _option("alpha_start", "Weight at the first update.")
    alpha_schedule: str = _option(
        "alpha_schedule", "How alpha moves over the optimizer steps.", choices=list(SCHEDULES)
    )
    objective: str = field(
        default="wrpo",
        metadata={
            "help": "Preference objective; dpo ignores source_chosen.",
            "choices": list(TRAINER_OBJECTIVES),
        },
    )
    margin: float = _option("margin", "What the scaled difference of rewards must exceed.")
    reference_free: bool = _option(
        "reference_free", "Leave the reference out of the implicit rewards."
    )
    desirable_weight: float = _option("desirable_weight", "Factor of that side of cgpo.")
    undesirable_weight: float = _option("undesirable_weight", "Factor of that side of cgpo.")
    undesirable_warmup_start: int = _option(
        "undesirable_warmup_start", "Optimizer steps before that side of cgpo starts to grow."
    )
    undesirable_warmup_steps: int = _option(
        "undesirable_warmup_steps", "Optimizer steps until that side of cgpo has its weight."
    )
    likelihood_weight: float = _option(
        "likelihood_weight", "Weight of the likelihood term; 0 leaves it out."
    )
    likelihood_on: str = _option(
        "likelihood_on", "Response the likelihood term reads.", choices=list(LIKELIHOOD_TARGETS)
    )
    max_prompt_length: int | None = field(
        default=None, metadata={"help": "Most tokens of the prompt; None keeps prompts whole."}
    )
    max_response_length: int | None = field(
        default=None, metadata={"help": "Most tokens of a response; None: what max_length leaves."}
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
        metadata={"help": "How tokens of a batch are arranged.", "choices": list(TRIPLE_LAYOUTS)},
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
    def objective_settings(self) -> ObjectiveSettings:
        """The settings of the objective that these options stand for.

        Raises:
            RecipeError: a value is outside its range.
        """
        kind = TRAINER_OBJECTIVES[self.objective]
        values = {option: getattr(self, option) for option in kind.options}
        given = {"objective": self.objective, **values, **self._loss_type(kind)}
        try:
            settings = kind.from_options(given)
        except ValidationError as error:
            raise RecipeError(_first_problem(error, kind, given)) from None
        return settings

    @property
    def responses(self) -> tuple[str, ...]:
        """Responses each step has to forward, in batch order."""
        return self.objective_settings.responses

    @property
    def loss(self) -> str:
        """The one entry of `loss_type`."""
        return self.loss_type if isinstance(self.loss_type, str) else self.loss_type[0]

    @property
    def limits(self) -> TokenLimits:
        """What rows are cut to."""
        return TokenLimits(
            self.max_length, self.max_prompt_length, self.max_response_length, self.truncation
        )

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
        _check_choice("objective", self.objective, list(TRAINER_OBJECTIVES))
        _check_choice("truncation", self.truncation, MODES)
        _check_choice("triple_layout", self.triple_layout, TRIPLE_LAYOUTS)
        if not isinstance(self.loss_type, str) and len(self.loss_type) != 1:
            raise RecipeError(f"loss_type is {self.loss_type}; choose one of {', '.join(LOSSES)}")
        self._refuse_options_of_other_objectives()
        _ = self.objective_settings
        self._check_lengths()

    def _refuse_options_of_other_objectives(self) -> None:
        own = {*TRAINER_OBJECTIVES[self.objective]().trainer_options(), "likelihood_on"}
        for option, usual in _DEFAULTS.items():
            value = self.loss if option == "loss_type" else getattr(self, option)
            if option not in own and value != usual:
                raise RecipeError(
                    f"{option} is {value!r}, which objective {self.objective} does not have; "
                    "leave it out"
                )

    def _loss_type(self, kind: type[ObjectiveSettings]) -> dict[str, str]:
        return {"loss_type": self.loss} if "loss_type" in kind.options else {}

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


def _first_problem(
    error: ValidationError, kind: type[ObjectiveSettings], given: Mapping[str, Any]
) -> str:
    """The first value that the settings refuse, by the name of its option."""
    item = error.errors()[0]
    field = ".".join(str(step) for step in item["loc"])
    message = item["msg"].removeprefix("Value error, ")
    names = [option for option, place in kind.options.items() if place == field]
    if not names:  # of several fields; the message names them
        return message
    return f"{names[0]} is {given[names[0]]!r}; {message[:1].lower()}{message[1:]}"
