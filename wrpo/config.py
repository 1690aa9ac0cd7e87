"""Training options of WRPO: TRL's own, plus what three responses need."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from pydantic import ValidationError
from trl import DPOConfig

from wrpo.errors import RecipeError
from wrpo.objectives.base import ObjectiveSettings
from wrpo.objectives.options import LOSSES
from wrpo.rows.truncation import MODES, TokenLimits
from wrpo.settings import kinds_in
from wrpo.training.settings import AUTO, Training
from wrpo.training.trl_keys import NOT_BY_WRPO_TRAINER, says_nothing

TRAINER_OBJECTIVES = {
    name: kind
    for name, kind in kinds_in("wrpo.objectives", ObjectiveSettings, tag="objective").items()
    if kind.config == "WRPOConfig"
}
OBJECTIVE_OPTIONS = tuple(
    dict.fromkeys(option for kind in TRAINER_OBJECTIVES.values() for option in kind.options)
)
"""The flat options of all objectives."""
TRIPLE_LAYOUTS = ("auto", "prefix", "padded")

_TRL_DEFAULTS = {
    option.name: option.default_factory() if callable(option.default_factory) else option.default
    for option in fields(DPOConfig)
}


def _option(text: str) -> Any:
    """A flat option of an objective; None is the default of its settings."""
    return field(default=None, metadata={"help": text})


@dataclass
class WRPOConfig(DPOConfig):
    """Options of `WRPOTrainer`: those of `trl.DPOConfig`, with its defaults, and the ones below.

    objective: a name, or the settings themselves: the mapping that a recipe has under `wrpo:`, or
        an `ObjectiveSettings`, which is kept as such a mapping. By name, the flat options below say
        the rest: None is the default of the settings, which takes its place once the config is
        made; None stays where the objective has no such option. Beside settings, a flat option may
        only say the same.
        "wrpo" uses all three responses. "dpo" uses (chosen, rejected); source_chosen is not
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
    precompute_ref_log_probs: compute the log-probs of the reference in one pass before training,
        so that no second model is in memory. None: where the policy as it was handed over is the
        reference, one process trains, and a pass is no dearer than what training forwards: with at
        least one epoch of a data set that is not streamed (see `wrpo.training.reference_pass`).
        Data sets that come after training has begun need False, or columns of their own. The pass
        has `micro_batch_tokens`, unless precompute_ref_batch_size says a number of rows.
    micro_batch_tokens: most tokens of a forward pass, or "auto": as many as fit into the GPU's
        memory, measured during the first optimizer steps, and 4096 on a CPU. The prompts of an
        optimizer step, per_device_train_batch_size x gradient_accumulation_steps x processes, stay
        the same, and so do the weights to rounding (but for the balancing loss of a mixture of
        experts, which is one of each micro-batch). None: micro-batches of
        per_device_train_batch_size prompts. Not for cgpo, whose loss depends on which prompts share
        a forward pass, and not for streamed data sets.
    balance_micro_batches: the micro-batches of an optimizer step hold about equal numbers of tokens
        instead of equal numbers of prompts. The prompts of the step stay the same, and so do the
        weights to rounding. Ignored in the padded layout, for streamed data sets, and when
        train_sampling_strategy is set.

    Raises:
        RecipeError: a value is out of range, or an option of `DPOConfig` is set that this trainer
            does not honour.
    """

    objective: dict[str, Any] | str | ObjectiveSettings | None = field(
        default="wrpo",
        metadata={
            "help": "Preference objective: a name, or its settings (on a command line JSON)."
        },
    )
    beta: float | None = _option("Scale of the reward.")
    loss_type: list[str] | None = field(
        default=None, metadata={"help": "Loss of the difference of rewards."}
    )
    label_smoothing: float | None = _option("Share of flipped preferences.")
    alpha: float | None = _option("Weight of the source response, in [0, 1].")
    alpha_start: float | None = _option("Weight at the first update.")
    alpha_schedule: str | None = _option("How alpha moves over the optimizer steps.")
    margin: float | None = _option("What the scaled difference of rewards must exceed.")
    reference_free: bool | None = _option("Leave the reference out of the implicit rewards.")
    desirable_weight: float | None = _option("Factor of that side of cgpo.")
    undesirable_weight: float | None = _option("Factor of that side of cgpo.")
    undesirable_warmup_start: int | None = _option(
        "Optimizer steps before that side of cgpo starts to grow."
    )
    undesirable_warmup_steps: int | None = _option(
        "Optimizer steps until that side of cgpo has its weight."
    )
    likelihood_weight: float | None = _option("Weight of the likelihood term; 0 leaves it out.")
    likelihood_on: str | None = _option("Response the likelihood term reads.")
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
    precompute_ref_log_probs: bool | None = field(
        default=None,
        metadata={"help": "Compute the reference in one pass before training; None: if cheaper."},
    )
    micro_batch_tokens: str | None = field(
        default=None, metadata={"help": "Most tokens of a forward pass, or auto: what fits."}
    )
    balance_micro_batches: bool = field(
        default=True,
        metadata={"help": "Give micro-batches equal numbers of tokens instead of prompts."},
    )

    def __post_init__(self) -> None:
        self._refuse_unsupported()
        self._settle_objective()
        self._check_values()
        super().__post_init__()

    @property
    def objective_settings(self) -> ObjectiveSettings:
        """The settings of the objective.

        Raises:
            RecipeError: there is no such objective, or a value is outside its range.
        """
        if isinstance(self.objective, dict):
            return settings_from(self.objective)
        kind = _kind(self.objective)
        given = {name: value for name, value in self._given().items() if name in kind.options}
        try:
            return kind.model_validate({"objective": self.objective, **kind.fields_of(given)})
        except ValidationError as error:
            raise RecipeError(_first_problem(error, kind, given)) from None

    @property
    def responses(self) -> tuple[str, ...]:
        """Responses each step has to forward, in batch order."""
        return self.objective_settings.responses

    @property
    def limits(self) -> TokenLimits:
        """What rows are cut to."""
        return TokenLimits(
            self.max_length, self.max_prompt_length, self.max_response_length, self.truncation
        )

    @property
    def needs_scores(self) -> bool:
        """Whether rows must carry source_chosen_score and chosen_score."""
        likelihood = self.objective_settings.likelihood_term
        return likelihood.weight > 0 and likelihood.on == "better"

    def _refuse_unsupported(self) -> None:
        for name, refused in NOT_BY_WRPO_TRAINER.items():
            value = getattr(self, name, refused.unless[0])
            if not says_nothing(refused, value):
                raise RecipeError(
                    f"{name} is {value!r}, which WRPOTrainer does not support; {refused.way_out}"
                )

    def _settle_objective(self) -> None:
        """Makes `objective` serialisable and gives the flat options the values of its settings."""
        if self.objective is None:
            self.objective = "wrpo"
        if isinstance(self.objective, str) and self.objective.startswith("{"):
            self.objective = _from_json(self.objective)
        if isinstance(self.objective, ObjectiveSettings):
            # How rows are batched and what is trained, TRL's own options say.
            own = self.objective.model_dump(mode="json", exclude=set(Training.model_fields))
            if type(self.objective) is not TRAINER_OBJECTIVES.get(str(own["objective"])):
                raise RecipeError(
                    f"objective is a {type(self.objective).__name__}, which is none of the "
                    f"trainer's: {', '.join(TRAINER_OBJECTIVES)}"
                )
            self.objective = own
        settings = self.objective_settings
        flat = settings.flat_options()
        for option, value in self._given().items():
            if option not in flat:
                _refuse_foreign_option(option, value, settings.objective)
            elif isinstance(self.objective, dict) and value != flat[option]:
                raise RecipeError(
                    f"{option} is {value!r}, and objective says {flat[option]!r}; leave one of "
                    "them out"
                )
        for option in OBJECTIVE_OPTIONS:
            setattr(self, option, flat.get(option, _TRL_DEFAULTS.get(option)))

    def _given(self) -> dict[str, Any]:
        """The flat options that are set."""
        given = {option: getattr(self, option) for option in OBJECTIVE_OPTIONS}
        losses = given["loss_type"]
        if isinstance(losses, (list, tuple)):
            if len(losses) != 1:
                raise RecipeError(f"loss_type is {losses}; choose one of {', '.join(LOSSES)}")
            given["loss_type"] = losses[0]
        return {option: value for option, value in given.items() if value is not None}

    def _check_values(self) -> None:
        _check_choice("truncation", self.truncation, MODES)
        _check_choice("triple_layout", self.triple_layout, TRIPLE_LAYOUTS)
        self._check_lengths()
        self._check_micro_batches()

    def _check_micro_batches(self) -> None:
        asked = self.micro_batch_tokens
        if asked is None or asked == AUTO:
            pass
        elif str(asked).isdecimal() and int(asked) > 0:
            self.micro_batch_tokens = int(asked)  # type: ignore[assignment]
        else:
            raise RecipeError(f"micro_batch_tokens is {asked!r}; write a number from 1 on, or auto")
        if asked is not None and not self.objective_settings.loss_by_row:
            raise RecipeError(
                f"micro_batch_tokens is {asked}, and the loss of this objective depends on which "
                "rows share a forward pass; leave it out and set per_device_train_batch_size "
                "(engine.per_device_batch_size in a recipe)"
            )

    def _check_lengths(self) -> None:
        if problem := self.limits.problem():
            raise RecipeError(problem)
        if self.packed_row_tokens is not None and self.packed_row_tokens < 2:
            raise RecipeError(
                f"packed_row_tokens is {self.packed_row_tokens}; it must be 2 or more, or null for "
                "no limit"
            )


def settings_from(given: Mapping[str, Any]) -> ObjectiveSettings:
    """The settings of an objective from the mapping that a recipe has under `wrpo:`.

    Raises:
        RecipeError: an unknown objective or field, a value outside its range, or a field that
            TRL's own options stand for.
    """
    kind = _kind(given.get("objective", "wrpo"))
    for name in Training.model_fields:
        if name in given:
            raise RecipeError(
                f"objective.{name} is {given[name]!r}, which a recipe decides; leave it out and "
                "set the options of WRPOConfig"
            )
    try:
        return kind.model_validate(dict(given))
    except ValidationError as error:
        item = error.errors()[0]
        name = ".".join(("objective", *map(str, item["loc"])))
        if item["type"] == "extra_forbidden":
            own = [field for field in kind.model_fields if field not in Training.model_fields]
            raise RecipeError(
                f"{name} is not a field of this objective, which has {', '.join(own)}"
            ) from None
        message = item["msg"].removeprefix("Value error, ")
        raise RecipeError(f"{name} is {item['input']!r}; {message}") from None


def _kind(name: Any) -> type[ObjectiveSettings]:
    _check_choice("objective", name, list(TRAINER_OBJECTIVES))
    return TRAINER_OBJECTIVES[name]


def _from_json(text: str) -> dict[str, Any]:
    try:
        given: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise RecipeError(f"objective is {text!r}, which is no JSON: {error}") from None
    return given


def _refuse_foreign_option(option: str, value: Any, objective: str) -> None:
    """Raises for an option of other objectives; what TRL sets by default passes."""
    usual = _TRL_DEFAULTS.get(option)
    if value not in (usual, [usual]) and [value] != usual:
        raise RecipeError(
            f"{option} is {value!r}, which objective {objective} does not have; leave it out"
        )


def _check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
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
