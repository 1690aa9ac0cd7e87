import json

import pytest

from tests.wrpo.training.small_training import policy
from wrpo.config import OBJECTIVE_OPTIONS, TRAINER_OBJECTIVES, WRPOConfig
from wrpo.errors import RecipeError
from wrpo.trainer import WRPOTrainer
from wrpo.training.settings import Training


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


ROUND_TRIPS = [
    {"objective": name, **options}
    for name, options in [
        ("wrpo", {"alpha": 0.3, "reference_free": True}),
        ("dpo", {"loss_type": "ipo", "likelihood_weight": 0.2, "likelihood_on": "chosen"}),
        ("cgpo", {"desirable_weight": 2.0}),
    ]
]


@pytest.mark.parametrize("options", ROUND_TRIPS, ids=lambda options: options["objective"])
@pytest.mark.parametrize("form", ["name", "mapping", "object", "JSON"])
def test_an_objective_by_name_or_by_its_settings_is_the_same(make_config, options, form):
    by_name = make_config(**options)
    settings = by_name.objective_settings
    fields = settings.model_dump(mode="json", exclude=set(Training.model_fields))
    given = {"mapping": fields, "object": settings, "JSON": json.dumps(fields)}
    config = make_config(**({"objective": given[form]} if form in given else options))
    assert config.objective_settings == settings
    saved = json.loads(json.dumps(config.to_dict()))
    again = WRPOConfig(**{key: saved[key] for key in saved if not key.endswith("_token")})
    assert again.objective_settings == settings
    for option in OBJECTIVE_OPTIONS:
        assert getattr(again, option) == getattr(by_name, option)


@pytest.mark.parametrize("kind", TRAINER_OBJECTIVES)
def test_defaults_are_those_of_the_settings(make_config, kind):
    assert make_config(objective=kind, beta=None).objective_settings == TRAINER_OBJECTIVES[kind]()


@pytest.mark.parametrize(
    ("objective", "options", "message"),
    [
        ({"objective": "dpo", "beta": 0.2}, {"beta": 0.1}, "beta is 0.1, and objective says 0.2"),
        ({"objective": "wrpo"}, {"reference_free": True}, "reference_free is True, and objective"),
        ({"objective": "dpo"}, {"alpha": 0.1}, "alpha is 0.1, which objective dpo does not have"),
        ({"objective": "dpo", "betta": 0.2}, {}, "objective.betta is not a field .* beta"),
        ({"alpha": {"end": 3}}, {}, "objective.wrpo.alpha.end is 3|objective.alpha.end is 3"),
        ({"objective": "dpo", "lora": {"r": 4}}, {}, "objective.lora is .* a recipe decides"),
        ({"objective": "sft"}, {}, "objective is 'sft'; choose one of"),
        ('{"objective": "dpo"', {}, "objective is .* no JSON"),
    ],
)
def test_settings_that_cannot_be_honoured_are_refused(make_config, objective, options, message):
    with pytest.raises(RecipeError, match=message):
        make_config(**{"beta": None, **options}, objective=objective)


def test_a_command_line_takes_a_name_and_settings(tmp_path):
    from transformers import HfArgumentParser

    usual = ["--output_dir", str(tmp_path), "--use_cpu", "true", "--bf16", "false"]
    parser = HfArgumentParser(WRPOConfig)
    [by_name] = parser.parse_args_into_dataclasses([*usual, "--objective", "dpo", "--beta", "0.2"])
    fields = json.dumps({"objective": "dpo", "beta": 0.2})
    [by_settings] = parser.parse_args_into_dataclasses([*usual, "--objective", fields])
    assert by_name.objective_settings == by_settings.objective_settings
    assert by_name.beta == 0.2


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
