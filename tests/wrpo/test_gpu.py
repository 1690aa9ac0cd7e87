"""What only GPUs can show: the kernels, measured memory, the accelerate configs as shipped."""

import pytest
import torch

from tests.support.tiny_models import save_tiny, tiny_model
from tests.wrpo.prefix.varlen_reference import reference_kernel
from tests.wrpo.training.small_training import logged
from tests.wrpo.training.test_distributed import Way, assert_same_history
from wrpo.prefix.varlen_attention import VARLEN, torch_kernel

pytestmark = [pytest.mark.gpu, pytest.mark.slow]
GPUS = torch.cuda.device_count()


@pytest.mark.skipif(GPUS < 1, reason="needs a GPU")
@pytest.mark.parametrize("window", [None, 1, 40])
@pytest.mark.parametrize("heads", [(4, 4), (4, 2)], ids=str)
def test_torchs_kernel_keeps_its_contract(window, heads):
    """Values and gradients against the reference in float64, more keys than queries."""
    kernel = torch_kernel()
    assert kernel is not None
    torch.manual_seed(0)
    lengths = [(70, 70), (30, 120), (1, 9), (200, 200)]
    counts = list(zip(*lengths, strict=True))
    bounds = [torch.tensor([0, *each]).cumsum(0).int() for each in counts]
    shapes = [(sum(counts[i]), h, 64) for i, h in ((0, heads[0]), (1, heads[1]), (1, heads[1]))]
    states = [torch.randn(shape, dtype=torch.bfloat16) for shape in shapes]
    weights = torch.randn(shapes[0], dtype=torch.float64)
    found = []
    for run, device, dtype in (
        (kernel, "cuda", torch.bfloat16),
        (reference_kernel(), "cpu", torch.float64),
    ):
        own = [x.to(device, dtype).requires_grad_() for x in states]
        ends = [x.to(device) for x in bounds]
        output = run.attend(*own, *ends, 200, 200, 0.2, window)
        (output * weights.to(device, dtype)).sum().backward()
        found.append([x.double().cpu() for x in (output.detach(), *(x.grad for x in own))])
    for ours, exact in zip(*found, strict=True):
        assert (ours - exact).norm() < 1e-2 * exact.norm()


@pytest.mark.skipif(GPUS < 1, reason="needs a GPU")
def test_a_measured_budget_trains_like_fixed_micro_batches(make_trainer):
    losses = {}
    for tokens in (None, "auto", 200):
        options = {"use_cpu": False, "bf16": True, "alpha": 0.4, "num_train_epochs": 3}
        options |= {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4}
        shape = {"hidden_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1}
        model = tiny_model(**shape, head_dim=32)
        trainer = make_trainer(model=model, micro_batch_tokens=tokens, **options)
        trainer.train()
        losses[tokens] = logged(trainer, "loss")
    assert len(losses[None]) == 6
    for tokens in ("auto", 200):
        assert losses[tokens] == pytest.approx(losses[None], rel=2e-2)


@pytest.mark.skipif(GPUS < 1, reason="needs a GPU")
@pytest.mark.parametrize("kernel", ["sdpa", "flash_attention_2"])
def test_shared_prompts_train_like_padding(make_trainer, tmp_path, kernel):
    """In bfloat16, whose 8 bits allow a few hundredths of a nat per token; sdpa becomes varlen."""
    if kernel != "sdpa":
        pytest.importorskip("flash_attn")
    from transformers import AutoModelForCausalLM

    shape = {"hidden_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32}
    path = save_tiny(tmp_path / "policy", **shape)
    trainers = {}
    for layout in ("padded", "prefix"):
        model = AutoModelForCausalLM.from_pretrained(
            path, dtype=torch.float32, attn_implementation=kernel
        )
        options = {"use_cpu": False, "bf16": True, "alpha": 0.4, "num_train_epochs": 2}
        trainers[layout] = make_trainer(model=model, triple_layout=layout, **options)
        trainers[layout].train()
    if kernel == "sdpa":
        assert trainers["prefix"].model.config._attn_implementation == VARLEN
    assert trainers["prefix"].data_collator.layout is not trainers["padded"].data_collator.layout
    for key in ("loss", "logps/source_chosen", "logps/chosen", "logps/rejected"):
        expected = pytest.approx(logged(trainers["padded"], key), rel=2e-2)
        assert logged(trainers["prefix"], key) == expected, key


@pytest.mark.skipif(GPUS < 2, reason="needs two GPUs")
@pytest.mark.parametrize("name", ["ddp", "zero2", "zero3", "fsdp2"])
def test_shipped_configs_train_like_one_gpu(name, tmp_path):
    if name.startswith("zero"):
        pytest.importorskip("deepspeed")
    save_tiny(tmp_path / "policy")
    one, two = (Way(way, tmp_path, cases=("prefix",), gpus=True) for way in ("one", name))
    assert_same_history(one.stages / "prefix", two.stages / "prefix", relative=5e-2, absolute=0.1)
