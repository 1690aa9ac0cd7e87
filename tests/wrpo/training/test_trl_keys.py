"""Every key of TRL's configs is honoured or refused; a key of a new release fails here first."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from trl import SFTConfig
from trl.trainer.base_config import _BaseConfig

from tests.support.recipe_files import tiny_recipe
from wrpo.config import WRPOConfig
from wrpo.errors import RecipeError
from wrpo.recipe.foreign_keys import RENAMED, config_fields, key_problem
from wrpo.training.common import trl_arguments
from wrpo.training.trl_config import make_config, require_effect
from wrpo.training.trl_keys import HONOURED, REFUSED, honours, way_out_of

CONFIGS: dict[str, Any] = {
    "SFTConfig": SFTConfig,
    "WRPOConfig": WRPOConfig,
    "TrainingArguments": _BaseConfig,
}
KEYS = [
    (config, field.name)
    for config, kind in CONFIGS.items()
    for field in dataclasses.fields(kind)
    if field.init
]

SAMPLES: dict[str, Any] = {
    "num_train_epochs": 2.0,
    "max_steps": 3,
    "learning_rate": 1e-2,
    "lr_scheduler_type": "cosine",
    "lr_scheduler_kwargs": {"num_cycles": 0.7},
    "warmup_steps": 0.5,
    "max_grad_norm": 0.01,
    "train_sampling_strategy": "group_by_length",
    "optim": "adafactor",
    "optim_args": "momentum=0.9",
    "optim_target_modules": ["q_proj"],
    "weight_decay": 0.5,
    "adam_beta1": 0.5,
    "adam_beta2": 0.5,
    "adam_epsilon": 1e-2,
    "gradient_checkpointing_kwargs": {"use_reentrant": True},
    "torch_compile_backend": "eager",
    "torch_compile_mode": "default",
    "torch_empty_cache_steps": 1,
    "pad_to_multiple_of": 8,
    "router_aux_loss_coef": 0.5,
    "accelerator_config": {"even_batches": False},
    "ddp_bucket_cap_mb": 1,
    "ddp_backend": "gloo",
    "ddp_timeout": 100,
    "dataloader_num_workers": 1,
    "dataloader_prefetch_factor": 2,
    "dataloader_multiprocessing_context": "spawn",
    "logging_strategy": "epoch",
    "logging_steps": 2,
    "log_level": "error",
    "log_level_replica": "error",
    "include_num_input_tokens_seen": "all",
    "debug": "underflow_overflow",
    "report_to": [],
    "run_name": "name",
    "project": "project",
    "trackio_space_id": "space",
    "trackio_bucket_id": "bucket",
    "trackio_static_space_id": "space",
    "save_strategy": "epoch",
    "save_steps": 1,
    "save_total_limit": 1,
    "max_length": 60,
    "loss_type": "dft",
    "packing_strategy": "wrapped",
    "neftune_noise_alpha": 5.0,
    "label_smoothing_factor": 0.1,
    "liger_kernel_config": {"rope": True},
    "dataset_num_proc": 2,
    "triple_layout": "padded",
    "packed_row_tokens": 100,
}
"""A value of each key that is no switch; a switch is turned over."""

NOT_HERE = {
    "tf32": "--tf32 requires",
    "ddp_backend": "process group has not been initialized",
    "activation_offloading": "no accelerator",
    "use_liger_kernel": "liger-kernel is not installed",
    "liger_kernel_config": "liger-kernel is not installed",
}
"""Keys with which a config cannot be made here, and what is then said."""

BESIDE: dict[str, dict[str, Any]] = {
    "optim_args": {"optim": "sgd"},
    "gradient_checkpointing_kwargs": {"gradient_checkpointing": True},
    "dataloader_persistent_workers": {"dataloader_num_workers": 1},
    "dataloader_prefetch_factor": {"dataloader_num_workers": 1},
    "dataloader_multiprocessing_context": {"dataloader_num_workers": 1},
    "packing_strategy": {"packing": True},
    "liger_kernel_config": {"use_liger_kernel": True},
    "lr_scheduler_kwargs": {"lr_scheduler_type": "cosine"},
    "dataloader_drop_last": {"max_steps": -1},
    "num_train_epochs": {"max_steps": -1},
}
"""Keys without which another has no meaning."""


def default_of(config: str, key: str) -> Any:
    """The default of the installed config itself."""
    field = CONFIGS[config].__dataclass_fields__[key]
    if field.default is not dataclasses.MISSING:
        return field.default
    return field.default_factory()


def sample(config: str, key: str) -> Any:
    """A value that differs from the default."""
    value = SAMPLES[key] if key in SAMPLES else not default_of(config, key)
    assert value != default_of(config, key)
    return value


@pytest.mark.parametrize(("config", "key"), KEYS)
def test_every_key_of_the_installed_configs_is_classified_once(config: str, key: str) -> None:
    refused = [row for row in REFUSED.get(key, ()) if config in row.configs]
    assert len(refused) + honours(config, key) == 1, "classify it in wrpo/training/trl_keys.py"


def test_no_key_is_classified_that_no_config_has() -> None:
    assert {*HONOURED, *REFUSED} <= {key for _, key in KEYS}
    assert not set(RENAMED) & set(config_fields("WRPOConfig")) & set(config_fields("SFTConfig"))


@pytest.mark.parametrize(
    ("config", "key"), [(config, key) for config, key in KEYS if not honours(config, key)]
)
def test_every_other_key_is_refused_with_the_way_out(config: str, key: str) -> None:
    [row] = [row for row in REFUSED[key] if config in row.configs]
    problem = key_problem(config, key, {key: "something else"})
    assert problem == f"does not belong here: {row.way_out}"
    if row.unless:  # what is so anyway
        assert default_of(config, key) in row.unless
    for value in row.unless:
        assert way_out_of(config, key, {key: value}) is None


@pytest.mark.parametrize(
    ("config", "key"), [(config, key) for config, key in KEYS if honours(config, key)]
)
def test_every_key_that_is_honoured_reaches_the_config(
    tmp_path: Path, monkeypatch, config: str, key: str
) -> None:
    value = sample(config, key)
    train = {**BESIDE.get(key, {}), key: value}
    for each in train:
        assert key_problem(config, each, train) is None
    recipe = tiny_recipe(tmp_path)
    section = recipe.sft if config == "SFTConfig" else recipe.wrpo
    settings = section.model_copy(update={"train": train, "global_batch_size": 1})
    arguments = trl_arguments(settings, seed=1, output=tmp_path)
    monkeypatch.setattr("wrpo.training.trl_config.find_spec", lambda name: None)
    if key in NOT_HERE:
        with pytest.raises(RecipeError, match=f"there.train.*{NOT_HERE[key]}"):
            make_config(CONFIGS[config], arguments, where="there.train")
        return
    args = make_config(CONFIGS[config], arguments, where="there.train")
    found = getattr(args, key)
    if key == "accelerator_config":
        found = {name: getattr(found, name) for name in value}
    if isinstance(found, list) and not isinstance(value, list):
        [found] = found
    assert getattr(found, "value", found) == value


@pytest.mark.parametrize(
    ("train", "key", "way_out"),
    [
        ({"save_strategy": "best"}, "save_strategy", "no rows to evaluate on"),
        ({"accelerator_config": {"split_batches": True}}, "accelerator_config", "even_batches"),
        ({"accelerator_config": "file.json"}, "accelerator_config", "takes a mapping"),
        ({"dataloader_prefetch_factor": 2}, "dataloader_prefetch_factor", "num_workers too"),
        ({"packing_strategy": "wrapped"}, "packing_strategy", "write packing too"),
        ({"liger_kernel_config": {"rope": True}}, "liger_kernel_config", "use_liger_kernel too"),
        ({"lr_scheduler_type": "greedy"}, "lr_scheduler_type", "no rows to evaluate on"),
        (
            {"warmup_steps": 0.1, "lr_scheduler_type": "constant"},
            "warmup_steps",
            "constant_with_warmup",
        ),
        (
            {"lr_scheduler_kwargs": {"a": 1}, "lr_scheduler_type": "constant"},
            "lr_scheduler_kwargs",
            "constant reads none",
        ),
        ({"packing": True, "max_length": None}, "packing", "give it a number"),
    ],
)
def test_values_that_a_stage_cannot_honour_are_refused(train, key, way_out) -> None:
    assert way_out in str(key_problem("SFTConfig", key, train))


def test_a_key_of_a_new_release_is_refused_until_it_is_known(monkeypatch) -> None:
    monkeypatch.setattr("wrpo.recipe.foreign_keys.config_fields", lambda config: {"brand_new": ""})
    assert "no stage is known to honour" in str(key_problem("SFTConfig", "brand_new", {}))


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({"optim_args": "momentum=0.9"}, "train.optim_args is .* changes nothing for optim adamw"),
        ({"optim_target_modules": ["q_proj"]}, "train.optim_target_modules is .* changes nothing"),
        ({"optim": "galore_adamw"}, "train: .*galore"),
        ({"lr_scheduler_type": "linear", "lr_scheduler_kwargs": {"no_such": 1}}, "no_such"),
        ({"optim": "sgd", "optim_args": "momentum=0.9"}, None),
    ],
)
def test_an_optimizer_or_schedule_that_cannot_be_is_refused_before_training(
    make_trainer, train, message
) -> None:
    trainer = make_trainer(**train)
    if message is None:
        require_effect(trainer, where="wrpo.train")
        return
    with pytest.raises(RecipeError, match=message):
        require_effect(trainer, where="wrpo.train")


def test_a_saved_recipe_with_a_refused_key_says_where_it_stands(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"sft.train.chat_template_path: .*target.chat_template"):
        tiny_recipe(tmp_path, "sft.train.chat_template_path=other.jinja")
    with pytest.raises(RecipeError, match=r"wrpo.train.eval_strategy: .*write `eval`"):
        tiny_recipe(tmp_path, "wrpo.train.eval_strategy=steps")


def test_an_arm_with_another_config_inherits_what_that_one_honours(tmp_path: Path) -> None:
    from wrpo.recipe import preference

    recipe = tiny_recipe(
        tmp_path,
        "wrpo.train={dataset_num_proc: 2, weight_decay: 0.1}",
        "arms={more-sft: {objective: sft}}",
    )
    assert preference(recipe, "more-sft").train == {"weight_decay": 0.1}
