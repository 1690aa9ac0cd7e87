"""Checks the keys under `sft.train` and `wrpo.train` against TRL's configs without importing TRL.

The field names and annotations are read from the installed source files, so that a misspelt key is
refused in milliseconds, before torch or a model is loaded.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from wrpo.source_fields import class_annotations

STATED_ELSEWHERE = {
    "output_dir": "the run directory decides it (`run`, `runs`)",
    "per_device_train_batch_size": "write `engine.per_device_batch_size`",
    "gradient_accumulation_steps": "it is derived from `global_batch_size`",
    "seed": "write `seed` at the top of the recipe",
    "data_seed": "write `seed` at the top of the recipe",
    "beta": "write `wrpo.beta`",
    "label_smoothing": "write `wrpo.label_smoothing`",
    "alpha": "write `wrpo.alpha.end`",
    "alpha_start": "write `wrpo.alpha.start`",
    "alpha_schedule": "write `wrpo.alpha.schedule`",
    "loss_type": "write `wrpo.loss`",
    "margin": "write `wrpo.margin`",
    "reference_free": "write `wrpo.reference: none`",
    "desirable_weight": "write `wrpo.cgpo.desirable_weight`",
    "undesirable_weight": "write `wrpo.cgpo.undesirable_weight`",
    "undesirable_warmup_start": "write `wrpo.cgpo.warmup_start`",
    "undesirable_warmup_steps": "write `wrpo.cgpo.warmup_steps`",
    "objective": "write `wrpo.objective`",
    "likelihood_weight": "write `wrpo.likelihood.weight`",
    "likelihood_on": "write `wrpo.likelihood.on`",
    "balance_micro_batches": "write `wrpo.engine.balance_micro_batches`",
    "precompute_ref_log_probs": "write `wrpo.reference`",
    "model_init_kwargs": "write `target.dtype` and its neighbours",
    "resume_from_checkpoint": "a stage resumes by itself",
    "completion_only_loss": "the loss always counts response tokens only",
    "push_to_hub": "publish the finished model folder yourself",
}

TRUNCATION = {
    "max_length": "write `truncation.max_length`",
    "max_prompt_length": "write `truncation.max_prompt_length`",
    "max_response_length": "write `truncation.max_response_length`",
    "truncation": "write `truncation.mode`",
}

RENAMED = {
    "torch_dtype": "the weights' precision is `target.dtype`",
    "evaluation_strategy": "its name is now eval_strategy",
    "max_prompt_length": "prompts over `sample.max_prompt_tokens` are dropped when sampling",
    "max_seq_length": "its name is now max_length",
    "warmup_ratio": "write warmup_steps with a value below 1, which is a share of all steps",
    "overwrite_output_dir": "a stage resumes or refuses by itself",
    "logging_dir": "the run directory decides it",
    "save_safetensors": "checkpoints are always safetensors",
}

_FILES = {
    "SFTConfig": [
        ("trl", "trainer/sft_config.py", "SFTConfig"),
        ("trl", "trainer/base_config.py", "_BaseConfig"),
        ("transformers", "training_args.py", "TrainingArguments"),
    ],
    "WRPOConfig": [
        ("wrpo", "config.py", "WRPOConfig"),
        ("trl", "trainer/dpo_config.py", "DPOConfig"),
        ("trl", "trainer/base_config.py", "_BaseConfig"),
        ("transformers", "training_args.py", "TrainingArguments"),
    ],
}

_PLAIN_TYPES: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "str": (str,),
    "list": (list,),
    "dict": (dict,),
    "None": (type(None),),
}


@cache
def config_fields(config: str) -> dict[str, str]:
    """Field name -> annotation text of "SFTConfig" or "WRPOConfig", own fields and inherited."""
    fields: dict[str, str] = {}
    for package, file, class_name in _FILES[config]:
        for name, annotation in class_annotations(package, file, class_name).items():
            fields.setdefault(name, annotation)
    return fields


def key_problem(config: str, key: str) -> str | None:
    """Why `key` is not allowed under `train:`, or None; unknown keys are the caller's to report."""
    elsewhere = STATED_ELSEWHERE | (TRUNCATION if config == "WRPOConfig" else {})
    if key in elsewhere:
        return f"does not belong here: {elsewhere[key]}"
    if key in RENAMED and key not in config_fields(config):
        return f"is not a key of {config}: {RENAMED[key]}"
    return None


def type_problem(config: str, key: str, value: Any) -> str | None:
    """Says how `value` misses the annotation of a known field, or None where it fits."""
    annotation = config_fields(config)[key]
    accepted = _accepted_types(annotation)
    if accepted is None or _is_one_of(value, accepted):
        return None
    return f"must be {annotation}, not {value!r} ({type(value).__name__})"


def _is_one_of(value: Any, accepted: tuple[type, ...]) -> bool:
    if isinstance(value, bool):
        return bool in accepted
    return isinstance(value, accepted)


def _accepted_types(annotation: str) -> tuple[type, ...] | None:
    accepted: list[type] = []
    for part in annotation.split("|"):
        plain = _PLAIN_TYPES.get(part.strip().split("[")[0])
        if plain is None:
            return None
        accepted.extend(plain)
    return tuple(accepted)
