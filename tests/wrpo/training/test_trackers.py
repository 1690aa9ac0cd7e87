"""`report_to`: real runs of wandb and trackio without a key and without network."""

import json
import os
import sqlite3
from pathlib import Path

import pytest
import yaml

from wrpo.errors import RecipeError
from wrpo.pipeline.metrics_file import METRICS, read_metrics
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.status import stage_status
from wrpo.recipe import load_recipe
from wrpo.training.trackers import tracking_arguments


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No key anywhere, and whatever the code sets is taken back."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_PROJECT", "WANDB_DIR", "WANDB_BASE_URL"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))


def test_without_a_key_wandb_keeps_its_files_in_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    arguments = tracking_arguments(["wandb"], output=tmp_path / "night" / "wrpo")
    assert arguments == {"project": "night", "run_name": "wrpo"}
    assert os.environ["WANDB_MODE"] == "offline"
    assert os.environ["WANDB_PROJECT"] == "night"
    assert os.environ["WANDB_DIR"] == str(tmp_path / "night")
    assert "logging offline" in caplog.text


@pytest.mark.parametrize(
    ("host", "server", "offline"),
    [
        ("api.wandb.ai", None, False),
        ("github.com", None, True),
        ("wandb.lab", "https://wandb.lab:8080/", False),
        ("api.wandb.ai", "https://wandb.lab", True),
    ],
)
def test_a_key_of_wandb_login_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, server: str | None, offline: bool
) -> None:
    (tmp_path / "netrc").write_text(f"machine {host} login user password {'k' * 40}\n")
    if server:
        monkeypatch.setenv("WANDB_BASE_URL", server)
    tracking_arguments("wandb", output=tmp_path / "run" / "sft")
    assert ("WANDB_MODE" in os.environ) == offline


def test_what_the_user_has_set_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WANDB_MODE": "disabled", "WANDB_PROJECT": "mine"}.items():
        monkeypatch.setenv(name, value)
    tracking_arguments("wandb", output=tmp_path / "run" / "sft")
    assert (os.environ["WANDB_MODE"], os.environ["WANDB_PROJECT"]) == ("disabled", "mine")


def test_a_tracker_that_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(RecipeError, match="pip install trackio"):
        tracking_arguments(["trackio"], output=tmp_path / "run" / "sft")
    tracking_arguments("none", output=tmp_path / "run" / "sft")


@pytest.fixture
def recipe(write_recipe, tmp_path: Path) -> Path:
    """SFT and WRPO on imported rows, both trackers on."""
    words = ["sea", "hill", "moon", "tree"]
    sft = [{"prompt": f"Say {w}.", "completion": w} for w in words]
    rows = [
        {"prompt": f"Say {w}.", "source_chosen": w, "chosen": w * 2, "rejected": "no"}
        for w in words
    ]
    imported = {}
    for name, table in {"sft": sft, "triples": rows}.items():
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in table))
        imported[name] = {"path": str(path)}
    training = {
        "global_batch_size": 4,
        "engine": {"per_device_batch_size": 4},
        "train": {
            "max_steps": 2,
            "logging_steps": 1,
            "learning_rate": 1e-4,
            "report_to": ["wandb", "trackio"],
            "gradient_checkpointing": False,
            "save_strategy": "no",
        },
    }
    path = write_recipe(build={"imported": imported}, sft=training, truncation={"max_length": 96})
    text = yaml.safe_load(path.read_text())
    text["wrpo"] = {**training, "reference": "none", "alpha": {"end": 0.5}}
    path.write_text(yaml.safe_dump(text))
    return path


def scalars_of_trackio(folder: Path, project: str) -> dict[str, set[str]]:
    """Run -> names of the metrics in trackio's own database."""
    [file] = folder.glob(f"{project}*.db")
    with sqlite3.connect(file) as database:
        found: dict[str, set[str]] = {}
        for run, metrics in database.execute("SELECT run_name, metrics FROM metrics"):
            found.setdefault(run, set()).update(json.loads(metrics))
    return found


@pytest.mark.slow
def test_both_stages_log_to_both_trackers_offline(recipe, run_module, tmp_path: Path) -> None:
    for module in ("data_construction.build", "wrpo.train_sft", "wrpo.train"):
        result = run_module(module, "--recipe", recipe)
        assert result.returncode == 0, result.stderr[-3000:]
    assert "wandb: no key found, logging offline" in result.stderr
    pipeline = Pipeline(load_recipe(recipe))
    run = pipeline.folder("wrpo").parent
    offline = [list(folder.glob("*.wandb")) for folder in (run / "wandb").glob("offline-run-*")]
    assert [len(files) for files in offline] == [1, 1]
    assert all(files[0].stat().st_size > 0 for files in offline)
    logged = scalars_of_trackio(tmp_path / "trackio", "test")
    assert {"train/loss", "train/learning_rate"} <= logged["sft"]
    assert {"train/loss", "train/alpha", "train/rewards/source_chosen"} <= logged["wrpo"]
    _check_live_metrics(pipeline)


def _check_live_metrics(pipeline: Pipeline) -> None:
    """The same numbers stand in metrics.jsonl, which the status reads."""
    for name in ("sft", "wrpo"):
        folder = pipeline.folder(name)
        history = json.loads((folder / "log_history.json").read_text())
        records = read_metrics(folder / METRICS)
        assert [record["step"] for record in records] == [1, 2, 2]
        for record, entry in zip(records, history, strict=True):
            assert {key: record[key] for key in entry} == entry
    status = stage_status(pipeline, "wrpo")
    assert (status.state, status.done, status.total) == ("done", 2, 2)
    assert (
        status.metrics
        and {"loss", "alpha", "source", "target", "rejected"} <= status.metrics.keys()
    )
