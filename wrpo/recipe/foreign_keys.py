"""Checks the keys under `sft.train` and `wrpo.train` against TRL's configs without importing TRL.

The field names and annotations are read from the installed source files, so that a misspelt key is
refused in milliseconds, before torch or a model is loaded.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from functools import cache
from typing import Any

from wrpo.source_fields import class_annotations
from wrpo.training.trl_keys import REFUSED, honours, way_out_of

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
    "TrainingArguments": [
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
    """Field name -> annotation text of a config of `_FILES`, own fields and inherited."""
    fields: dict[str, str] = {}
    for package, file, class_name in _FILES[config]:
        for name, annotation in class_annotations(package, file, class_name).items():
            fields.setdefault(name, annotation)
    return fields


def key_problem(config: str, key: str, train: Mapping[str, Any]) -> str | None:
    """Why a key of `train` is not allowed there, or None."""
    fields = config_fields(config)
    if key not in fields and key in RENAMED:
        return f"is not a key of {config}: {RENAMED[key]}"
    if key not in fields:
        close = difflib.get_close_matches(key, fields, n=1)
        return f"is not a key of {config}" + (f'; did you mean "{close[0]}"?' if close else "")
    if way_out := way_out_of(config, key, train):
        return f"does not belong here: {way_out}"
    if not honours(config, key) and key not in REFUSED:
        return (
            f"is a key of the installed {config} that no stage is known to honour; leave it out, "
            "or classify it in wrpo/training/trl_keys.py"
        )
    return type_problem(config, key, train[key])


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
