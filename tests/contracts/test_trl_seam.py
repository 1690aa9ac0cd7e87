"""`wrpo.training.trl_seam.CONTACTS` against the code and the installed TRL and transformers.

Run this file first with a new release: the message of a failing test says what is gone, what relied
on it, and so where to look.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from dataclasses import fields
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from wrpo.training.trl_seam import CONTACTS, Contact

DOCUMENTED = {"trl", "transformers"}
"""What is imported from the top level is documented."""
GOLD = REPOSITORY / "wrpo" / "trl_arms" / "gold_trainer.py"
TRAINING = [
    *(REPOSITORY / "wrpo" / name for name in ("trainer.py", "config.py", "collator.py")),
    *(REPOSITORY / "wrpo" / "training").rglob("*.py"),
    *(REPOSITORY / "wrpo" / "prefix").glob("*.py"),
    GOLD,
]
PUBLIC_ATTRIBUTES = {"accelerator", "args", "model", "ref_model", "state", "train_dataset"}
PUBLIC_ATTRIBUTES |= {"data_collator", "compute_loss_context_manager"}
"""Attributes that transformers and TRL document for trainers."""


GOLD_TRAINER = "trl.experimental.gold:GOLDTrainer"


def members(path: str, of: str = "trl:DPOTrainer") -> set[str]:
    """Names that CONTACTS lists for a trainer: "." of the class, "()." of a trainer."""
    marks = [contact.place.split(f"{of}{path}") for contact in CONTACTS]
    return {parts[1] for parts in marks if len(parts) == 2}


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory):
    """A trainer of TRL's own."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    from tests.support.tiny_models import tiny_model, tiny_tokenizer

    args = DPOConfig(str(tmp_path_factory.mktemp("trl")), use_cpu=True, bf16=False)
    rows = Dataset.from_list([{"prompt": "a", "chosen": " b", "rejected": " c"}] * 2)
    return DPOTrainer(
        tiny_model("llama"),
        ref_model=tiny_model("llama"),
        args=args,
        train_dataset=rows,
        processing_class=tiny_tokenizer(),
    )


@pytest.fixture(scope="module")
def gold_trainer(tmp_path_factory: pytest.TempPathFactory):
    """GOLDTrainer of TRL's own."""
    from datasets import Dataset
    from trl.experimental.gold import GOLDConfig, GOLDTrainer

    from tests.support.tiny_models import save_tiny, tiny_model, tiny_tokenizer

    folder = tmp_path_factory.mktemp("gold")
    args = GOLDConfig(
        str(folder / "out"),
        use_cpu=True,
        bf16=False,
        use_uld_loss=True,
        teacher_tokenizer_name_or_path=str(save_tiny(folder / "teacher")),
    )
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    return GOLDTrainer(
        tiny_model("llama"),
        teacher_model=tiny_model("llama"),
        args=args,
        train_dataset=Dataset.from_list([{"messages": messages}] * 2),
        processing_class=tiny_tokenizer(),
    )


@pytest.mark.parametrize("contact", CONTACTS, ids=lambda contact: contact.place)
def test_the_installed_releases_have_it(contact: Contact, trainer, gold_trainer) -> None:
    module, _, name = contact.place.partition(":")
    holder, _, member = name.partition(".")
    target = importlib.import_module(module)
    if member:
        made = {"DPOTrainer()": trainer, "TrainingArguments()": trainer.args}
        made["GOLDTrainer()"] = gold_trainer
        target = made[holder] if holder in made else getattr(target, holder)
    wanted = member or name
    assert hasattr(target, wanted), f"{contact.place} is gone; it serves for: {contact.why}"


def test_no_other_name_of_their_inner_modules_is_imported() -> None:
    listed = {contact.place for contact in CONTACTS}
    used = {
        f"{node.module}:{alias.name}"
        for path in TRAINING
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ImportFrom)
        and node.module
        and node.module.split(".")[0] in DOCUMENTED
        and node.module not in DOCUMENTED
        for alias in node.names
    }
    members_of = ("trl:DPOTrainer", "transformers:TrainingArguments()")
    members_of += (f"{GOLD_TRAINER}.", f"{GOLD_TRAINER}().")
    assert used == {place for place in listed if not place.startswith(members_of)}


def test_no_other_method_of_the_parent_is_replaced() -> None:
    from trl import DPOTrainer

    from wrpo.trainer import WRPOTrainer

    ours = [kind for kind in WRPOTrainer.__mro__ if kind.__module__.startswith("wrpo.")]
    own = {name for kind in ours for name in vars(kind)}
    replaced = {name for name in own if hasattr(DPOTrainer, name) and not name.startswith("__")}
    assert replaced == members(".")


def test_no_other_attribute_of_the_parent_is_read(trainer) -> None:
    names = (
        "trainer",
        "training/metrics",
        "training/batches/micro_batches",
        "training/reference_pass",
    )
    paths = [REPOSITORY / "wrpo" / f"{name}.py" for name in names]
    read = {name for path in paths for name in attributes_of_self(path)}
    inherited = {name for name in read if hasattr(trainer, name)} - members(".")
    assert inherited - PUBLIC_ATTRIBUTES == members("().")


def test_gold_replaces_and_reads_nothing_else_of_its_parent(gold_trainer) -> None:
    from wrpo.trl_arms.gold_trainer import GOLDOwnTemplateTrainer

    parent = type(gold_trainer)
    own = {name for name in vars(GOLDOwnTemplateTrainer) if not name.startswith("__")}
    assert {name for name in own if hasattr(parent, name)} == members(".", GOLD_TRAINER)
    read = {name for name in attributes_of_self(GOLD) - own if hasattr(gold_trainer, name)}
    assert read - PUBLIC_ATTRIBUTES == members("().", GOLD_TRAINER)


def attributes_of_self(path: Path) -> set[str]:
    nodes = ast.walk(ast.parse(path.read_text("utf-8")))
    return {
        node.attr
        for node in nodes
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    }


def test_the_fused_head_returns_log_probs_and_entropy_and_keeps_no_logits() -> None:
    import torch
    from trl.trainer.utils import add_fused_lm_head

    from tests.support.tiny_models import tiny_model

    model = tiny_model("llama")
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    ids = torch.tensor([[7, 8, 9, 10]])
    output = model(input_ids=ids, labels=ids, fused_lm_head=True)
    assert output.log_probs.shape == output.entropy.shape
    assert output.log_probs.numel() in (3, 4)
    assert getattr(output, "logits", None) is None


def test_deepspeed_partitions_no_model_while_one_is_loaded_whole() -> None:
    from transformers.integrations.deepspeed import HfDeepSpeedConfig, is_deepspeed_zero3_enabled

    from wrpo.training.trl_seam import whole_weights

    config = HfDeepSpeedConfig({"zero_optimization": {"stage": 3}})
    assert is_deepspeed_zero3_enabled()
    with whole_weights():
        assert not is_deepspeed_zero3_enabled()
    assert is_deepspeed_zero3_enabled()
    del config
    assert not is_deepspeed_zero3_enabled()


def test_trl_config_fields_that_recipes_and_the_trainer_name_exist() -> None:
    from trl import DPOConfig, SFTConfig

    shared = {"learning_rate", "max_steps", "warmup_steps", "bf16", "gradient_checkpointing"}
    shared |= {"use_cpu", "save_strategy", "report_to", "optim", "lr_scheduler_type", "max_length"}
    assert shared | {"packing", "padding_free"} <= {field.name for field in fields(SFTConfig)}
    own = {"beta", "loss_type", "precompute_ref_log_probs", "disable_dropout"}
    assert shared | own <= {field.name for field in fields(DPOConfig)}


def test_attention_functions_take_what_packed_batches_hand_over() -> None:
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    parameters = inspect.signature(sdpa_attention_forward).parameters
    assert list(parameters)[:5] == ["module", "query", "key", "value", "attention_mask"]
    assert any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
