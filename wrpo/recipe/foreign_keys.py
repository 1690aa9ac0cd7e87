"""Checks the keys under `sft.train` and `wrpo.train` against TRL's configs without importing TRL.

The field names and annotations are read from the installed source files, so that a misspelt key is
refused in milliseconds, before torch or a model is loaded.
"""

from __future__ import annotations

import ast
import importlib.util
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

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
    "completion_only_loss": "the loss always counts answer tokens only",
    "push_to_hub": "publish the finished model folder yourself",
}

TRUNCATION = {
    "max_length": "write `truncation.max_length`",
    "max_prompt_length": "write `truncation.max_prompt_length`",
    "max_answer_length": "write `truncation.max_answer_length`",
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
    """Why `key` cannot stand under `train:`, or None; unknown keys are the caller's to report."""
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


@cache
def class_annotations(package: str, file: str, class_name: str) -> dict[str, str]:
    """The annotated fields of a class, from its source file; none where it is not installed."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return {}
    path = Path(spec.submodule_search_locations[0]) / file
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name == class_name:
            return {
                item.target.id: ast.unparse(item.annotation)
                for item in node.body
                if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
            }
    return {}


_ANSWERS = "it changes the answers, and engine settings must not"
DECIDED = {
    "model": "write `model` of the source",
    "revision": "write `revision` of the source",
    "tokenizer": "it is the model's own",
    "tokenizer_revision": "write `revision` of the source",
    "dtype": "write `dtype` of the source",
    "quantization": "write `quantization` of the source",
    "trust_remote_code": "write `trust_remote_code` of the source",
    "enable_lora": "write `adapter` of the source",
    "tensor_parallel_size": "write `engine.tensor_parallel_size`",
    "pipeline_parallel_size": "write `engine.pipeline_parallel_size`",
    "data_parallel_size": "write `engine.replicas`",
    "gpu_memory_utilization": "write `engine.gpu_memory_utilization`",
    "max_num_seqs": "write `engine.max_num_seqs`",
    "enforce_eager": "write `engine.enforce_eager`",
    "enable_prefix_caching": "write `engine.prefix_caching`",
    "kv_cache_memory_bytes": "write `engine.kv_cache_mib`",
    "max_model_len": "it is `sample.max_prompt_tokens` + `max_tokens`",
    "seed": "each answer has a seed of its own",
    "runner": "the stage decides it",
    "convert": "the stage decides it",
    "generation_config": "sampling fields come from `sample` alone",
    "override_generation_config": "sampling fields come from `sample` alone",
    "skip_tokenizer_init": "the text of the answers needs the tokenizer",
    "disable_log_stats": "the stage decides it",
    "hf_token": "a recipe holds no keys; set HF_TOKEN in the environment",
    "hf_overrides": _ANSWERS,
    "logits_processors": _ANSWERS,
    "logprobs_mode": _ANSWERS,
}


def check_vllm_keys(arguments: dict[str, Any]) -> dict[str, Any]:
    """Returns the arguments; where vLLM is not installed, their names are not checked.

    Raises:
        ValueError: a name is no engine argument, or is decided elsewhere.
    """
    known = class_annotations("vllm", "engine/arg_utils.py", "EngineArgs") if arguments else {}
    for name in arguments:
        if name in DECIDED:
            raise ValueError(f'"{name}" does not belong here: {DECIDED[name]}')
        if known and name not in known:
            close = get_close_matches(name, known.keys() - DECIDED.keys(), n=1)
            hint = f'; did you mean "{close[0]}"?' if close else ""
            raise ValueError(f'"{name}" is no engine argument of the installed vLLM{hint}')
    return arguments
