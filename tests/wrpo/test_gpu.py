"""What only GPUs can show: flash-attn's kernel, and the accelerate configs as they are shipped."""

import pytest
import torch

from tests.support.tiny_models import save_tiny
from tests.wrpo.training.small_training import logged
from tests.wrpo.training.test_distributed import Way, assert_same_history

pytestmark = [pytest.mark.gpu, pytest.mark.slow]
GPUS = torch.cuda.device_count()


@pytest.mark.skipif(GPUS < 1, reason="needs a GPU")
def test_shared_prompts_train_like_padding_with_flash_attention(make_trainer, tmp_path):
    """In bfloat16, whose 8 bits allow a few hundredths of a nat per token."""
    pytest.importorskip("flash_attn")
    from transformers import AutoModelForCausalLM

    shape = {"hidden_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32}
    path = save_tiny(tmp_path / "policy", **shape)
    trainers = {}
    for layout in ("padded", "prefix"):
        model = AutoModelForCausalLM.from_pretrained(
            path, dtype=torch.float32, attn_implementation="flash_attention_2"
        )
        options = {"use_cpu": False, "bf16": True, "alpha": 0.4, "num_train_epochs": 2}
        trainers[layout] = make_trainer(model=model, triple_layout=layout, **options)
        trainers[layout].train()
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
