"""A mixture of experts is balanced in the prefix layout as in the padded one."""

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig

from tests.support.tiny_models import tiny_model
from tests.wrpo.conftest import make_triples
from tests.wrpo.prefix.layouts import score, scoring_model, share_prompts, token_rows
from tests.wrpo.training.small_training import logged
from wrpo.collator import DataCollatorForWRPO, model_inputs, padded_layout
from wrpo.errors import ModelError
from wrpo.prefix.fused_head import fused_pass
from wrpo.prefix.moe_aux_loss import balancing_loss
from wrpo.prefix.packing import PackedLayout

EXPERTS = ("mixtral", "qwen3_moe")
LAYOUTS = (PackedLayout(scored_only=True), PackedLayout(row_tokens=160))
LORA = LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM")
UNWEIGHTED = "every token counts once"


def collate(layout):
    return DataCollatorForWRPO(pad_token_id=0, layout=layout)(token_rows())


def balance(model, layout, weights=None):
    """The balancing loss of a batch, and its gradients."""
    batch = collate(layout)
    if weights is None:
        weights = batch.get("token_weights", batch["attention_mask"])
    model.zero_grad()
    with balancing_loss(model, None if weights is UNWEIGHTED else weights) as balanced:
        fused_pass(model, batch)
    balanced.loss.backward()
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return balanced.loss.item(), gradients


def balance_by_trl(model):
    model.zero_grad()
    batch = model_inputs(collate(padded_layout))
    loss = model(**batch, output_router_logits=True, fused_lm_head=True).aux_loss
    loss.backward()
    return loss.item(), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


def assert_same_balance(left, right):
    assert left[0] == pytest.approx(right[0], rel=2e-6)
    assert left[1].keys() == right[1].keys() != set()
    for name, gradient in left[1].items():
        assert (gradient - right[1][name]).norm() <= 2e-5 * gradient.norm(), name


@pytest.mark.parametrize("options", [{}, {"lora": True}, {"checkpointing": True}], ids=str)
@pytest.mark.parametrize("architecture", EXPERTS)
def test_loss_and_gradients_equal_those_of_padded_rows_by_trl(architecture, options):
    model = scoring_model(architecture, **options)
    expected = balance_by_trl(model)
    assert_same_balance(balance(model, padded_layout), expected)
    share_prompts(model)
    for layout in LAYOUTS:
        assert_same_balance(balance(model, layout), expected)


@pytest.mark.parametrize("architecture", EXPERTS)
def test_prompts_that_count_once_are_noticed(architecture):
    model = scoring_model(architecture)
    expected, gradients = balance(model, padded_layout)
    share_prompts(model)
    loss, wrong = balance(model, PackedLayout(), UNWEIGHTED)
    assert abs(loss - expected) > 1e-3
    router = next(name for name in gradients if name.endswith("gate.weight"))
    assert (wrong[router] - gradients[router]).norm() > 0.01 * gradients[router].norm()


def test_passes_outside_are_left_alone():
    model = scoring_model("mixtral")
    backbone = model.base_model
    before = (len(backbone._forward_hooks), len(backbone._forward_pre_hooks))
    balance(model, padded_layout)
    assert (len(backbone._forward_hooks), len(backbone._forward_pre_hooks)) == before


def test_a_model_without_a_router_is_refused():
    model = tiny_model("llama", num_experts_per_tok=2)
    with pytest.raises(ModelError, match="router_aux_loss_coef"), balancing_loss(model, None):
        model(torch.arange(5, 9)[None])


def test_reentrant_checkpointing_is_warned_about():
    model = scoring_model("mixtral")
    model.gradient_checkpointing_enable({"use_reentrant": True})
    model.enable_input_require_grads()
    batch = model_inputs(collate(padded_layout))
    warned = pytest.warns(UserWarning, match="trains nothing")
    with warned, balancing_loss(model, batch["attention_mask"]):
        fused_pass(model, batch)


def test_log_probs_do_not_depend_on_the_balancing():
    """The reference pass of a model whose config asks for router logits."""
    model = scoring_model("mixtral")
    assert model.config.output_router_logits
    share_prompts(model)
    logps, _ = score(model, PackedLayout())
    batch = collate(PackedLayout())
    with balancing_loss(model, batch["token_weights"]):
        assert torch.equal(score(model, PackedLayout())[0], logps)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "options"),
    [
        ("mixtral", {"gradient_checkpointing": True}),
        ("mixtral", {"peft_config": LORA, "learning_rate": 1e-2}),
        ("qwen3_moe", {"router_aux_loss_coef": 0.5}),
    ],
    ids=["checkpointing", "lora", "coefficient"],
)
def test_training_is_the_same_in_both_layouts(make_trainer, architecture, options):
    trainers = {}
    for layout in ("padded", "prefix"):
        trainer = trainers[layout] = make_trainer(
            model=tiny_model(architecture),
            eval_dataset=Dataset.from_list(make_triples(5, offset=20)),
            triple_layout=layout,
            # The loss of a micro-batch depends on which prompts it holds.
            balance_micro_batches=False,
            max_steps=8,
            per_device_train_batch_size=2,
            gradient_accumulation_steps=2,
            **options,
        )
        assert trainer.aux_loss_enabled
        assert isinstance(trainer.data_collator.layout, PackedLayout) == (layout == "prefix")
        trainer.train()
        trainer.evaluate()
    for key in ("loss", "aux_loss", "eval_loss", "eval_aux_loss"):
        padded, prefix = (logged(trainers[layout], key) for layout in ("padded", "prefix"))
        assert prefix == pytest.approx(padded, rel=1e-6, abs=5e-6), key
        assert len(padded) == (1 if key.startswith("eval") else 8)
    losses = logged(trainers["prefix"], "aux_loss")
    assert max(losses) - min(losses) > 1e-3
