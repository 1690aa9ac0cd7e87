"""The trainer in both layouts, and when it falls back to padding."""

import copy
import json
import math

import pytest
import torch
import transformers
from accelerate import Accelerator
from datasets import Dataset
from peft import LoraConfig, PromptTuningConfig
from trl.trainer.utils import add_fused_lm_head

import wrpo.prefix.choose
import wrpo.prefix.varlen_attention
from tests.support.tiny_models import tiny_model
from tests.wrpo.conftest import make_triples
from tests.wrpo.prefix.varlen_reference import reference_kernel
from tests.wrpo.training.small_training import logged
from wrpo.collator import padded_layout
from wrpo.errors import RecipeError
from wrpo.prefix.attention import SDPA, attach_scored_only
from wrpo.prefix.choose import LayoutOptions, settle_layout
from wrpo.prefix.flex_attention import FLEX
from wrpo.prefix.packing import PackedLayout, read_segments
from wrpo.prefix.timed_trial import Way, fastest, typical_rows, usual_rows
from wrpo.prefix.varlen_attention import VARLEN


def shares_prompts(trainer) -> bool:
    return isinstance(trainer.data_collator.layout, PackedLayout)


def tiny_bloom():
    torch.manual_seed(0)
    config = transformers.BloomConfig(vocab_size=262, hidden_size=32, n_layer=2, n_head=4)
    return transformers.BloomForCausalLM(config)


@pytest.fixture
def reasons(caplog):
    """The reasons logged so far for a padded layout."""
    return lambda: [text for text in caplog.messages if "triple_layout: padded" in text]


OPTIONS = [
    {},
    {"objective": "dpo"},
    {"gradient_checkpointing": True, "packed_row_tokens": 150},
    {"precompute_ref_log_probs": True},
    {"likelihood_weight": 0.3, "likelihood_on": "both"},
    {"peft_config": LoraConfig(r=8, task_type="CAUSAL_LM"), "learning_rate": 1e-2},
]


@pytest.mark.slow
@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(options) or "plain")
def test_training_and_evaluation_are_the_same_in_both_layouts(make_trainer, options):
    curves = {}
    for layout in ("padded", "prefix"):
        trainer = make_trainer(
            model=tiny_model(),
            eval_dataset=Dataset.from_list(make_triples(5, offset=20)),
            triple_layout=layout,
            max_steps=6,
            per_device_train_batch_size=2,
            gradient_accumulation_steps=2,
            **options,
        )
        assert shares_prompts(trainer) == (layout == "prefix")
        trainer.train()
        evaluation = trainer.evaluate()
        tokens = logged(trainer, "num_tokens")
        curves[layout] = (logged(trainer, "loss"), evaluation, tokens)
    padded, prefix = curves["padded"], curves["prefix"]
    assert len(prefix[0]) == 6
    assert prefix[0] == pytest.approx(padded[0], abs=5e-6)
    assert max(padded[0]) - min(padded[0]) > 1e-3
    assert prefix[1]["eval_loss"] == pytest.approx(padded[1]["eval_loss"], abs=5e-6)
    for name, value in padded[1].items():
        if name.startswith(("eval_logps", "eval_rewards", "eval_lengths", "eval_entropy")):
            assert prefix[1][name] == pytest.approx(value, rel=1e-5, abs=1e-4), name
    assert prefix[2] == padded[2]


def test_auto_shares_prompts_and_says_nothing(make_trainer, reasons):
    trainer = make_trainer(ref_model=tiny_model(seed=1), model=tiny_model(), triple_layout="auto")
    assert shares_prompts(trainer)
    for model in (trainer.model, trainer.ref_model):
        assert model.config._attn_implementation == SDPA
    assert reasons() == []


@pytest.mark.parametrize(
    ("model", "options", "reason"),
    [
        (lambda: tiny_model("mixtral", router_jitter_noise=0.1), {}, "noise"),
        (tiny_bloom, {}, "fails|differ"),
        (tiny_model, {"disable_dropout": False}, "dropout"),
        (lambda: tiny_model(attention_dropout=0.1), {}, "attention_dropout is 0.1"),
        (
            tiny_model,
            {
                "peft_config": PromptTuningConfig(
                    task_type="CAUSAL_LM", num_virtual_tokens=2, tokenizer_name_or_path=None
                )
            },
            "virtual tokens",
        ),
        (lambda: tiny_model(attn_implementation="flex_attention"), {}, "flex_attention"),
    ],
    ids=["jitter", "alibi", "dropout", "attention-dropout", "prompt-tuning", "flex"],
)
def test_auto_falls_back_with_one_reason_and_prefix_refuses(
    make_trainer, reasons, model, options, reason
):
    model = model()
    before = model.config._attn_implementation
    trainer = make_trainer(model=copy.deepcopy(model), triple_layout="auto", **options)
    assert trainer.data_collator.layout is padded_layout
    assert trainer.model.config._attn_implementation == before
    (logged_reason,) = reasons()
    with pytest.raises(RecipeError, match=reason) as refusal:
        make_trainer(model=model, triple_layout="prefix", **options)
    assert logged_reason.split("because ")[1] in str(refusal.value)


def test_a_model_whose_attention_is_wrong_is_found_by_the_trial(make_trainer, reasons, monkeypatch):
    monkeypatch.setattr(
        "wrpo.prefix.attention.read_segments",
        lambda table: [segment._replace(shared=0) for segment in read_segments(table)],
    )
    trainer = make_trainer(model=tiny_model(), triple_layout="auto")
    assert not shares_prompts(trainer)
    assert "differ" in reasons()[0]


def test_a_second_trainer_of_the_same_model_shares_prompts_too(make_trainer):
    model = tiny_model()
    assert shares_prompts(make_trainer(model=model, triple_layout="auto"))
    trainer = make_trainer(model=model, triple_layout="prefix", max_steps=1)
    trainer.train()
    assert logged(trainer, "loss")[0] == pytest.approx(math.log(2), abs=1e-6)


def test_padded_leaves_the_model_alone_unless_its_attention_leaves_something_out(make_trainer):
    trainer = make_trainer(model=tiny_model(), triple_layout="padded")
    assert trainer.model.config._attn_implementation == "sdpa"
    models = {"model": tiny_model("gemma2"), "ref_model": tiny_model("gemma2", seed=1)}
    trainer = make_trainer(**models, triple_layout="padded")
    for model in (trainer.model, trainer.ref_model):
        assert model.config._attn_implementation == SDPA


def test_a_collator_of_the_caller_is_kept(make_config, triples, tokenizer, reasons):
    from wrpo.collator import DataCollatorForWRPO
    from wrpo.trainer import WRPOTrainer

    collator = DataCollatorForWRPO(pad_token_id=0)
    trainer = WRPOTrainer(
        model=tiny_model(),
        args=make_config(triple_layout="auto"),
        data_collator=collator,
        train_dataset=triples,
        processing_class=tokenizer,
    )
    assert trainer.data_collator.layout is padded_layout
    assert reasons() == []
    with pytest.raises(RecipeError, match="data_collator"):
        WRPOTrainer(
            model=tiny_model(),
            args=make_config(triple_layout="prefix"),
            data_collator=collator,
            train_dataset=triples,
            processing_class=tokenizer,
        )


def test_a_saved_model_loads_without_this_package(make_trainer, tmp_path):
    trainer = make_trainer(model=tiny_model(), triple_layout="prefix", max_steps=1)
    trainer.train()
    trainer.save_model(str(tmp_path / "saved"))
    assert "wrpo" not in json.dumps(json.loads((tmp_path / "saved/config.json").read_text()))


def test_the_trained_model_still_generates(make_trainer):
    trainer = make_trainer(model=tiny_model(), triple_layout="prefix", max_steps=1)
    trainer.train()
    prompt = torch.arange(5, 20)[None]
    assert trainer.model.generate(prompt, max_new_tokens=4, do_sample=False).shape[1] > 15


@pytest.mark.parametrize("value", ["shared", 7])
def test_an_unknown_layout_is_refused(make_config, value):
    with pytest.raises(RecipeError, match="triple_layout"):
        make_config(triple_layout=value)


# --- the fastest way on a GPU, with a stopwatch of the test's own ---


@pytest.fixture
def kernel_on_cpu(monkeypatch):
    monkeypatch.setattr(wrpo.prefix.varlen_attention, "torch_kernel", reference_kernel)


def test_torchs_kernel_is_taken_where_it_runs(make_trainer, kernel_on_cpu):
    trainer = make_trainer(ref_model=tiny_model(seed=1), model=tiny_model(), triple_layout="auto")
    assert shares_prompts(trainer)
    for model in (trainer.model, trainer.ref_model):
        assert model.config._attn_implementation == VARLEN


def test_a_wrong_kernel_is_found_by_the_trial(make_trainer, monkeypatch):
    right = reference_kernel()
    wrong = right._replace(attend=lambda *states: 1.01 * right.attend(*states))
    monkeypatch.setattr(wrpo.prefix.varlen_attention, "torch_kernel", lambda: wrong)
    trainer = make_trainer(model=tiny_model(), triple_layout="auto")
    assert trainer.model.config._attn_implementation == SDPA
    assert shares_prompts(trainer)


def settled(monkeypatch, caplog, *, wishes=None, sharded=False, best=0, model=None):
    """What is settled on a GPU where the way at `best` of those that are timed wins."""
    offered = []

    def choose(_, ways, rows, **options):
        assert len(rows) == 4
        assert options["trains"] is False
        offered.extend(way.name for way in ways)
        return ways[best]

    class OnGPU(Accelerator):
        device = torch.device("cuda")

        def gather(self, agreed):
            return agreed

    monkeypatch.setattr(wrpo.prefix.choose, "fastest", choose)
    monkeypatch.setattr(wrpo.prefix.choose, "_try", lambda *_, **__: None)
    monkeypatch.setattr(wrpo.prefix.choose, "_runs_here", lambda *_: not sharded)
    model = tiny_model() if model is None else model
    with caplog.at_level("WARNING"):
        layout = settle_layout([model], wishes or LayoutOptions(), accelerator=OnGPU())
    return offered, layout, model.config._attn_implementation


@pytest.fixture
def half_kernel(monkeypatch):
    """A kernel as on a GPU, except that it takes float32."""
    kernel = reference_kernel()._replace(device="cuda")
    monkeypatch.setattr(wrpo.prefix.varlen_attention, "torch_kernel", lambda: kernel)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))


ALL_WAYS = [
    f"prefix with {VARLEN}",
    f"prefix with {SDPA}",
    "padded with sdpa",
    f"padded with {VARLEN}",
]


@pytest.mark.parametrize("best", range(4))
def test_on_a_gpu_the_fastest_way_wins(monkeypatch, caplog, half_kernel, best):
    offered, layout, attention = settled(monkeypatch, caplog, best=best)
    assert offered == ALL_WAYS
    assert isinstance(layout, PackedLayout) == (best < 2)
    assert ALL_WAYS[best].endswith(f" {attention}")


def test_what_the_kernel_cannot_take_is_timed_without_it(monkeypatch, caplog, half_kernel):
    model = tiny_model("gemma2")
    offered, layout, attention = settled(monkeypatch, caplog, best=2, model=model)
    # transformers' sdpa would be faster, and another function.
    assert offered == [f"prefix with {FLEX}", f"prefix with {SDPA}", f"padded with {SDPA}"]
    assert (layout, attention) == (padded_layout, SDPA)


def test_weights_that_are_distributed_are_not_timed(monkeypatch, caplog, half_kernel, reasons):
    offered, layout, attention = settled(monkeypatch, caplog, sharded=True)
    assert (offered, attention) == ([], VARLEN)
    assert isinstance(layout, PackedLayout)
    _, layout, attention = settled(monkeypatch, caplog, sharded=True, model=tiny_model("gemma2"))
    assert (layout, attention) == (padded_layout, SDPA)
    assert "cannot be timed" in reasons()[0]


def test_prefix_is_obeyed_without_a_stopwatch(monkeypatch, caplog, half_kernel):
    wishes = LayoutOptions(layout="prefix")
    offered, layout, attention = settled(monkeypatch, caplog, wishes=wishes)
    assert (offered, attention) == ([], VARLEN)
    assert isinstance(layout, PackedLayout)


@pytest.mark.slow
def test_the_stopwatch_takes_the_way_with_the_least_time(kernel_on_cpu, caplog):
    model = tiny_model()
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    costs = {"sdpa": 3.0, VARLEN: 1.0, SDPA: 2.0}
    now = [0.0]

    def clock() -> float:
        now[0] += costs[model.config._attn_implementation]
        return now[0]

    layout = PackedLayout(scored_only=True)
    attach_scored_only(model)
    ways = [Way(layout, SDPA), Way(padded_layout, "sdpa"), Way(layout, VARLEN)]
    rows = usual_rows(262, ("chosen", "rejected"))
    with caplog.at_level("INFO"):
        best = fastest(
            model,
            ways,
            rows,
            responses=("chosen", "rejected"),
            trains=True,
            accelerator=Accelerator(cpu=True),
            clock=clock,
        )
    assert best is ways[2]
    assert all(parameter.grad is None for parameter in model.parameters())
    told = caplog.messages[-1]
    assert f"prefix with {SDPA} 2000.0 ms" in told
    assert "padded with sdpa 3000.0 ms" in told


def test_a_way_that_fails_is_out_and_rows_are_halved_until_one_fits(monkeypatch, caplog):
    model = tiny_model()
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    attach_scored_only(model)
    seen, forward = [], model.forward

    def scarce(*arguments, **options):
        rows = len(options["input_ids"])
        seen.append((model.config._attn_implementation, rows, model.is_gradient_checkpointing))
        if model.config._attn_implementation == SDPA:
            raise RuntimeError("no such kernel")
        if rows > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(*arguments, **options)

    monkeypatch.setattr(model, "forward", scarce)
    ways = [Way(PackedLayout(scored_only=True), SDPA), Way(padded_layout, "sdpa")]
    options = {"responses": ("chosen",), "trains": True, "checkpointing": True}
    rows = usual_rows(262, ("chosen",))
    best = fastest(model, ways, rows, **options, accelerator=Accelerator(cpu=True))
    assert best is ways[1]
    assert "no such kernel" in caplog.text
    assert [rows for name, rows, _ in seen if name == "sdpa"] == [4, 2, 2, 2]
    assert all(recomputes for *_, recomputes in seen)
    assert not model.is_gradient_checkpointing


def test_typical_rows_are_spread_over_the_lengths():
    rows = Dataset.from_dict({"length": [5, 1, 4, 2, 3, 9], "name": list("eadbcf")})
    assert [row["name"] for row in typical_rows(rows, 3)] == ["b", "d", "f"]
    assert typical_rows(rows.to_iterable_dataset(), 3) == []
    assert len(typical_rows(rows, 100)) == 6
