"""What becomes of each key of TRL's configs: one table, for `sft.train` and `wrpo.train`.

A key under `train:` is handed to TRL as it is, or refused with what to do instead; there is no
third. `HONOURED` and `REFUSED` name every key of the installed SFTConfig and WRPOConfig, those that
they inherit included, and of what all configs of TRL have (TrainingArguments); a test holds them
against the configs and tries each key that is honoured.
Light to import: recipes are checked with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

_BOTH = frozenset({"SFTConfig", "WRPOConfig"})
_SHARED = frozenset({"TrainingArguments"})
_ALL = _BOTH | _SHARED
_SFT = frozenset({"SFTConfig"})
_PREFERENCE = frozenset({"WRPOConfig"})

_NO_EVALUATION = "a stage has no rows to evaluate on while it trains; write `eval`"
_LAUNCH = "say it in the accelerate config that `engine.accelerate` names"
_PUBLISH = "publish the finished model folder yourself"
_RESPONSES = "the loss always counts response tokens only"
_TOKENS = "the stage tokenises its rows itself"


class Refused(NamedTuple):
    """A key that is not handed on.

    Attributes:
        way_out: what to do instead.
        unless: values that pass, because they say what is so anyway.
        configs: for which configs.
    """

    way_out: str
    unless: tuple[Any, ...] = ()
    configs: frozenset[str] = _ALL


def _each(keys: str, *refused: Any) -> dict[str, Refused]:
    return dict.fromkeys(keys.split(), Refused(*refused))


NOT_BY_WRPO_TRAINER: dict[str, Refused] = {
    key: Refused(way_out, (unless,), _PREFERENCE)
    for key, unless, way_out in (
        ("loss_weights", None, "weigh the likelihood term with likelihood_weight"),
        ("ld_alpha", None, "use TRL's DPOTrainer for length-desensitised DPO"),
        ("f_divergence_type", "reverse_kl", "use TRL's DPOTrainer for other divergences"),
        ("f_alpha_divergence_coef", 0.5, "use TRL's DPOTrainer for other divergences"),
        ("discopop_tau", 0.05, "use TRL's DPOTrainer for DiscoPOP"),
        ("use_weighting", False, "use TRL's DPOTrainer for WPO weighting"),
        ("padding_free", False, "leave it out: TRL pads all the same"),
        ("truncation_mode", "keep_start", "leave it out: the tail of a too long answer is cut"),
        ("use_liger_kernel", False, "set model_init_kwargs: {use_kernels: true}"),
        ("liger_kernel_config", None, "set model_init_kwargs: {use_kernels: true}"),
        ("sync_ref_model", False, "leave it out: the reference stays the starting point"),
        ("ref_model_mixup_alpha", 0.6, "leave it out: the reference stays the starting point"),
        ("ref_model_sync_steps", 512, "leave it out: the reference stays the starting point"),
        ("pad_token", None, "set tokenizer.pad_token and pass the tokenizer as processing_class"),
        ("label_smoothing_factor", 0.0, "set label_smoothing"),
        ("neftune_noise_alpha", None, "leave it out: responses and reference share no noise"),
        ("average_tokens_across_devices", True, "leave it out: a step is a mean over its prompts"),
    )
}
"""What WRPOTrainer refuses with whatever rows, in scripts too."""

_PLACES = {
    "objective": "objective",
    "beta": "beta",
    "loss_type": "loss",
    "label_smoothing": "label_smoothing",
    "alpha": "alpha.end",
    "alpha_start": "alpha.start",
    "alpha_schedule": "alpha.schedule",
    "margin": "margin",
    "reference_free": "reference: none",
    "desirable_weight": "cgpo.desirable_weight",
    "undesirable_weight": "cgpo.undesirable_weight",
    "undesirable_warmup_start": "cgpo.warmup_start",
    "undesirable_warmup_steps": "cgpo.warmup_steps",
    "likelihood_weight": "likelihood.weight",
    "likelihood_on": "likelihood.on",
    "balance_micro_batches": "engine.balance_micro_batches",
    "micro_batch_tokens": "engine.batch_tokens",
    "precompute_ref_log_probs": "reference",
    "precompute_ref_batch_size": "reference",
}
_OF_PREFERENCE = {
    **{key: f"wrpo.{place}" for key, place in _PLACES.items()},
    "max_length": "truncation.max_length",
    "max_prompt_length": "truncation.max_prompt_length",
    "max_response_length": "truncation.max_response_length",
    "truncation": "truncation.mode",
    "fold_system": "target.fold_system",
}

_OF_SFT = {
    **_each("chat_template_path", "write `target.chat_template`", (None,), _SFT),
    **_each("eos_token", "write `target.chat_template`, which ends turns", (None,), _SFT),
    **_each("pad_token", "set it in the model folder of `target`", (None,), _SFT),
    **_each("dataset_num_proc dataset_kwargs", _TOKENS, (None,), _SFT),
    **_each("dataset_text_field", _TOKENS, (), _SFT),
    **_each("completion_only_loss", _RESPONSES, (), _SFT),
    **_each("assistant_only_loss", _RESPONSES, (False,), _SFT),
    **_each("eval_packing", _NO_EVALUATION, (None,), _SFT),
    **_each("truncation_mode", "the tail of a too long response is cut", ("keep_start",), _SFT),
}

REFUSED: dict[str, tuple[Refused, ...]] = {}
"""Every key that is refused, with its rows: one, or one per config."""

_OF_SHARED = {
    **_each("use_liger_kernel", "these losses need logits, which it keeps back", (False,), _SHARED),
    **_each("liger_kernel_config", "leave it out, as use_liger_kernel", (None,), _SHARED),
    **_each("neftune_noise_alpha", "teachers and student share no noise", (None,), _SHARED),
    **_each("label_smoothing_factor", "these losses smooth no labels", (0.0,), _SHARED),
    **_each("average_tokens_across_devices", "the trainer decides it", (True,), _SHARED),
}

_OF_BOTH = {
    # Where it runs, and how large a step is.
    **_each("output_dir", "the run directory decides it (`run`, `runs`)"),
    **_each("per_device_train_batch_size", "write `engine.per_device_batch_size`"),
    **_each("gradient_accumulation_steps", "it is derived from `global_batch_size`"),
    **_each("auto_find_batch_size", "lower `engine.per_device_batch_size`", (False,)),
    **_each("seed data_seed", "write `seed` at the top of the recipe"),
    **_each("local_rank", _LAUNCH, (-1,)),
    **_each("fsdp fsdp_config deepspeed parallelism_config", _LAUNCH, (None,)),
    # What is trained.
    **_each("model_init_kwargs", "write `target.dtype` and its neighbours"),
    **_each("trust_remote_code", "write `target.trust_remote_code`"),
    **_each("use_cache", "leave it out: training has no use for it", (False,)),
    # Rows, which the stage has prepared.
    **_each("remove_unused_columns", "the stage chooses the columns", (True,)),
    **_each("length_column_name", "rows are as long as their tokens", ("length",)),
    # Evaluation while training.
    **_each("eval_strategy", _NO_EVALUATION, ("no",)),
    **_each(
        "do_eval do_predict eval_on_start bf16_full_eval fp16_full_eval prediction_loss_only "
        "batch_eval_metrics eval_use_gather_object load_best_model_at_end",
        _NO_EVALUATION,
        (False,),
    ),
    **_each(
        "eval_steps eval_accumulation_steps metric_for_best_model greater_is_better label_names",
        _NO_EVALUATION,
        (None,),
    ),
    **_each(
        "eval_delay per_device_eval_batch_size eval_do_concat_batches include_for_metrics",
        _NO_EVALUATION,
    ),
    **_each("do_train", "leave it out: a stage trains"),
    # Checkpoints, and what follows from them.
    **_each("resume_from_checkpoint", "a stage resumes by itself", (None,)),
    **_each(
        "save_only_model",
        "resuming needs the optimizer; save disk with save_total_limit, or save_strategy: no",
        (False,),
    ),
    **_each("save_on_each_node", "all nodes share the run directory", (False,)),
    **_each("enable_jit_checkpoint", "a stage saves at SIGTERM by itself", (False,)),
    **_each("ignore_data_skip", "a resumed stage goes on with the rows left", (False,)),
    **_each(
        "restore_callback_states_from_checkpoint",
        "the callbacks of a stage keep nothing",
        (False,),
    ),
    **_each("push_to_hub hub_always_push", _PUBLISH, (False,)),
    **_each("hub_token hub_private_repo hub_model_id hub_revision", _PUBLISH, (None,)),
    **_each("hub_strategy", _PUBLISH),
}

for _group in (
    _OF_BOTH,
    _OF_SFT,
    _OF_SHARED,
    {key: Refused(f"write `{way}`", (), _PREFERENCE) for key, way in _OF_PREFERENCE.items()},
    NOT_BY_WRPO_TRAINER,
):
    for _key, _refused in _group.items():
        REFUSED[_key] = (*REFUSED.get(_key, ()), _refused)

HONOURED: dict[str, frozenset[str]] = {
    **dict.fromkeys(
        (
            # Steps and schedule.
            *("num_train_epochs", "max_steps", "learning_rate", "lr_scheduler_type"),
            *("lr_scheduler_kwargs", "warmup_steps", "max_grad_norm", "train_sampling_strategy"),
            # Optimizer.
            *("optim", "optim_args", "optim_target_modules", "weight_decay"),
            *("adam_beta1", "adam_beta2", "adam_epsilon"),
            # Precision, memory and speed.
            *("bf16", "fp16", "tf32", "gradient_checkpointing", "gradient_checkpointing_kwargs"),
            *("torch_compile", "torch_compile_backend", "torch_compile_mode"),
            *("torch_empty_cache_steps", "use_cpu", "full_determinism", "accelerator_config"),
            *("ddp_find_unused_parameters", "ddp_bucket_cap_mb", "ddp_broadcast_buffers"),
            *("ddp_static_graph", "ddp_backend", "ddp_timeout"),
            *("dataloader_drop_last", "dataloader_num_workers", "dataloader_pin_memory"),
            *("dataloader_persistent_workers", "dataloader_prefetch_factor"),
            *("dataloader_multiprocessing_context", "dataloader_in_order"),
            # Logs and checkpoints.
            *("logging_strategy", "logging_steps", "logging_first_step", "log_on_each_node"),
            *("logging_nan_inf_filter", "log_level", "log_level_replica", "disable_tqdm"),
            *("include_num_input_tokens_seen", "skip_memory_metrics", "debug"),
            *("report_to", "run_name", "project", "trackio_space_id", "trackio_bucket_id"),
            *("trackio_static_space_id", "save_strategy", "save_steps", "save_total_limit"),
        ),
        _ALL,
    ),
    **dict.fromkeys(("activation_offloading", "pad_to_multiple_of", "router_aux_loss_coef"), _BOTH),
    **dict.fromkeys(
        (
            *("max_length", "loss_type", "shuffle_dataset", "packing", "packing_strategy"),
            *("padding_free", "neftune_noise_alpha", "label_smoothing_factor"),
            *("average_tokens_across_devices", "use_liger_kernel", "liger_kernel_config"),
        ),
        _SFT,
    ),
    **dict.fromkeys(
        ("dataset_num_proc", "disable_dropout", "triple_layout", "packed_row_tokens"),
        _PREFERENCE,
    ),
}
"""Every key that is handed on, with the configs whose trainer acts on it."""


def _accelerator_config(value: Any, train: Mapping[str, Any]) -> str | None:
    """`split_batches` and a number of accumulated steps change the rows of a step."""
    known = ("even_batches", "use_seedable_sampler", "non_blocking", "use_configured_state")
    if value is not None and not (isinstance(value, Mapping) and set(value) <= set(known)):
        return f"a stage takes a mapping of {', '.join(known)}, and decides the rest itself"
    return None


def _needs(other: str) -> Callable[[Any, Mapping[str, Any]], str | None]:
    """A key that says more of another one."""

    def problem(value: Any, train: Mapping[str, Any]) -> str | None:
        alone = bool(value) and not train.get(other)
        return f"it does nothing alone; write {other} too, or leave it out" if alone else None

    return problem


def _needs_length(value: Any, train: Mapping[str, Any]) -> str | None:
    if value and train.get("max_length", 1) is None:
        return "rows are packed up to max_length, which is null; give it a number"
    return None


def _no_scores(*values: str) -> Callable[[Any, Mapping[str, Any]], str | None]:
    """Values that go by an evaluation's scores."""
    return lambda value, train: _NO_EVALUATION if value in values else None


def _reads_kwargs(value: Any, train: Mapping[str, Any]) -> str | None:
    kind = str(train.get("lr_scheduler_type", "linear"))
    if value and kind.startswith("constant"):
        return f"lr_scheduler_type {kind} reads none; leave it out, or choose another"
    return None


def _warms_up(value: Any, train: Mapping[str, Any]) -> str | None:
    if value and train.get("lr_scheduler_type") == "constant":
        return "lr_scheduler_type constant has no warm-up; write constant_with_warmup, or 0 here"
    return None


VALUES: dict[str, Callable[[Any, Mapping[str, Any]], str | None]] = {
    "accelerator_config": _accelerator_config,
    "dataloader_persistent_workers": _needs("dataloader_num_workers"),
    "dataloader_prefetch_factor": _needs("dataloader_num_workers"),
    "dataloader_multiprocessing_context": _needs("dataloader_num_workers"),
    "liger_kernel_config": _needs("use_liger_kernel"),
    "lr_scheduler_kwargs": _reads_kwargs,
    "lr_scheduler_type": _no_scores("reduce_lr_on_plateau", "greedy"),
    "packing": _needs_length,
    "packing_strategy": _needs("packing"),
    "save_strategy": _no_scores("best"),
    "warmup_steps": _warms_up,
}
"""What is wrong with a value of a key that is honoured, from it and all keys beside it."""


def honours(config: str, key: str) -> bool:
    """Whether a key is handed on to this config."""
    return config in HONOURED.get(key, frozenset())


def way_out_of(config: str, key: str, train: Mapping[str, Any]) -> str | None:
    """What to do instead of a key of `train`, or None where it is handed on or says nothing new."""
    for refused in REFUSED.get(key, ()):
        if config in refused.configs and not says_nothing(refused, train[key]):
            return refused.way_out
    return VALUES[key](train[key], train) if key in VALUES else None


def says_nothing(refused: Refused, value: Any) -> bool:
    """Whether a value of a refused key is what is so anyway; True is not 1."""
    return any(
        value == usual and isinstance(value, bool) == isinstance(usual, bool)
        for usual in refused.unless
    )
