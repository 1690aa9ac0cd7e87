import pytest

from tests.wrpo.training.small_training import policy
from wrpo.errors import RecipeError
from wrpo.trainer import WRPOTrainer


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"loss_type": ["sigmoid", "ipo"]}, "loss_type"),
        ({"loss_type": "exo_pair"}, "loss_type"),
        ({"loss_type": "ipo", "margin": 0.5}, "margin"),
        ({"loss_type": "hinge", "label_smoothing": 0.1}, "label_smoothing"),
        ({"objective": "cgpo", "reference_free": True}, "reference_free"),
        ({"objective": "cgpo", "loss_type": "ipo"}, "loss_type"),
        ({"alpha_start": -0.1}, "alpha_start"),
        ({"loss_weights": [1.0]}, "loss_weights"),
        ({"ld_alpha": 0.5}, "ld_alpha"),
        ({"f_divergence_type": "forward_kl"}, "f_divergence_type"),
        ({"use_weighting": True}, "use_weighting"),
        ({"padding_free": True}, "padding_free"),
        ({"truncation_mode": "keep_end"}, "truncation_mode"),
        ({"use_liger_kernel": True}, "use_liger_kernel"),
        ({"sync_ref_model": True}, "sync_ref_model"),
        ({"pad_token": "<|pad|>"}, "pad_token"),
        ({"label_smoothing_factor": 0.1}, "label_smoothing_factor"),
        ({"alpha": 1.2}, "alpha"),
        ({"alpha_schedule": "convex"}, "alpha_schedule"),
        ({"objective": "simpo"}, "objective"),
        ({"likelihood_on": "rejected"}, "likelihood_on"),
        ({"likelihood_weight": -0.1}, "likelihood_weight"),
        ({"label_smoothing": 0.5}, "label_smoothing"),
        ({"beta": 0.0}, "beta"),
        ({"max_length": 1}, "max_length"),
        ({"max_length": 64, "max_prompt_length": 64}, "max_prompt_length"),
        ({"max_response_length": 1}, "max_response_length"),
        ({"truncation": "keep_end"}, "truncation"),
        ({"truncation": "original", "max_length": 64}, "max_prompt_length"),
    ],
)
def test_options_that_cannot_be_honoured_are_refused_by_name(make_config, options, key):
    with pytest.raises(RecipeError, match=rf"^{key} is"):
        make_config(**options)


def test_published_loss_type_spelling_is_accepted(make_config):
    assert make_config(loss_type="sigmoid").loss_type == ["sigmoid"]


def test_arguments_that_cannot_be_honoured_are_refused(make_trainer, make_config, triples):
    from trl import DPOConfig

    with pytest.raises(RecipeError, match="compute_metrics"):
        make_trainer(compute_metrics=lambda prediction: {})
    with pytest.raises(RecipeError, match="train_dataset"):
        make_trainer(train_dataset=None)
    with pytest.raises(RecipeError, match="WRPOConfig"):
        WRPOTrainer(model=policy(), args=DPOConfig(use_cpu=True, bf16=False), train_dataset=triples)


def test_importing_the_package_imports_no_torch():
    import subprocess
    import sys

    code = "import sys, wrpo; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
