"""The table of speeds: the shipped one makes sense, and what is measured adds up."""

import multiprocessing
from pathlib import Path

import pytest

from wrpo.errors import RecipeError
from wrpo.plan.formulas import decode_bound
from wrpo.plan.model_shape import shape_of
from wrpo.plan.throughput import (
    FILE,
    Measured,
    ThroughputTable,
    decode_speed,
    find_table,
    read_measured,
    read_throughput,
    record,
)

RECIPES = Path(__file__).parents[3] / "recipes"


@pytest.fixture(scope="module")
def table() -> ThroughputTable:
    return read_throughput(RECIPES / FILE)


def row(**changes: object) -> Measured:
    fields = {"model": "a/b@main", "gpu": "cpu", "gpus": 1, "prompts": 10, "prompt_tokens": 100}
    fields |= {"responses": 20, "response_tokens": 1000, "seconds": 5.0}
    return Measured.model_validate(fields | changes)


def test_every_shipped_number_is_marked_as_an_estimate(table: ThroughputTable) -> None:
    others = [gpu for kind, gpu in table.gpus.items() if kind != "h200"]
    assert {gpu.source for gpu in others} == {"estimate"}
    assert {(gpu.training_error, gpu.micro_batch_ms_per_layer) for gpu in others} == {(None, 0)}
    assert table.lengths.source == "estimate"
    assert table.hosted == {}


def test_the_speed_of_training_is_that_of_the_measured_steps(table: ThroughputTable) -> None:
    """Shares of the peak that `benchmarks.training_step` gave at the shape of Llama-3-8B."""
    gpu = table.gpus["h200"]
    assert gpu.training_error is not None
    for share in (0.38, 0.41, 0.40, 0.38):
        worked = share * 10 / 8  # with the forward pass that checkpointing does again
        assert abs(worked / gpu.training_utilization - 1) <= gpu.training_error
    assert gpu.micro_batch_ms_per_layer == pytest.approx(2210 / 4 / 24, rel=0.01)


@pytest.mark.parametrize("kind", ["h100", "h200", "a100", "l40s", "rtx 4090", "cpu"])
def test_no_shipped_speed_is_above_what_the_hardware_allows(
    table: ThroughputTable, kind: str
) -> None:
    """256 sequences of 500 tokens: memory traffic, and two operations per parameter and token."""
    gpu = table.gpus[kind]
    for billions, speed in gpu.decode_tokens_per_s.items():
        shape = shape_of("x/y", parameters_b=billions)
        assert shape
        bandwidth = gpu.bandwidth_tb_s * 1e12
        memory = decode_bound(shape, sequences=256, context=500, bytes_per_s=bandwidth)
        compute = gpu.peak_tflops * 1e12 / (2 * shape.parameters)
        assert speed < min(memory, compute), f"{kind}, {billions}B"


@pytest.mark.parametrize("kind", ["h100", "h200", "a100", "l40s", "rtx 4090", "cpu"])
def test_larger_models_are_slower(table: ThroughputTable, kind: str) -> None:
    speeds = [decode_speed(table.gpus[kind], size) for size in (0.1, 1, 2, 8, 20, 70, 400)]
    assert speeds == sorted(speeds, reverse=True)


def test_speeds_between_and_outside_the_sizes(table: ThroughputTable) -> None:
    gpu = table.gpus["h100"].model_copy(update={"decode_tokens_per_s": {1.0: 1000.0, 4.0: 250.0}})
    assert decode_speed(gpu, 1) == pytest.approx(1000)
    assert decode_speed(gpu, 4) == pytest.approx(250)
    assert decode_speed(gpu, 2) == pytest.approx(500)
    assert decode_speed(gpu, 8) == pytest.approx(125)
    assert decode_speed(gpu, 0.5) == pytest.approx(2000)


@pytest.mark.parametrize(
    ("device", "kind"),
    [
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("NVIDIA GeForce RTX 4090", "rtx 4090"),
        ("NVIDIA L40S", "l40s"),
        ("cpu", "cpu"),
        ("NVIDIA GeForce RTX 3060", None),
    ],
)
def test_devices_are_told_by_their_words(
    table: ThroughputTable, device: str, kind: str | None
) -> None:
    assert table.kind_of(device) == kind


def test_measurements_add_up(tmp_path: Path) -> None:
    record(tmp_path, row())
    record(tmp_path, row(seconds=15.0))
    record(tmp_path, row(model="c/d@main"))
    first, second = read_measured(tmp_path)
    assert (first.responses, first.seconds, first.decode_tokens_per_s) == (40, 20.0, 100.0)
    assert first.updated
    assert second.model == "c/d@main"


def add_many(runs: Path) -> None:
    for _ in range(20):
        record(runs, row())


def test_samplers_may_record_at_once(tmp_path: Path) -> None:
    processes = [
        multiprocessing.get_context("fork").Process(target=add_many, args=(tmp_path,))
        for _ in range(4)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    [only] = read_measured(tmp_path)
    assert only.responses == 20 * 80
    assert sorted(path.name for path in tmp_path.iterdir()) == [f".{FILE}.lock", FILE]


def test_no_measurements_yet(tmp_path: Path) -> None:
    assert read_measured(tmp_path) == []


def test_the_table_is_found_beside_and_above_the_recipe() -> None:
    recipe = RECIPES / "fusechat3" / "gemma2-9b.yaml"
    assert find_table(recipe, runs=Path("runs")) == RECIPES / FILE


def test_what_was_measured_is_not_taken_for_the_table(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    record(runs, row())
    saved = runs / "demo" / "recipe.yaml"
    assert find_table(saved, runs=runs) != runs / FILE
    (tmp_path / FILE).touch()
    assert find_table(saved, runs=runs) == tmp_path / FILE


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("gpu: h100", "gpu: h1000", "no kind h1000; known: h100"),
        ("price_per_hour: 2.5", "price_per_hour: -1", r"yaml:\d+: gpus.h100.price_per_hour: "),
        ("price_per_hour: 2.5", "prize: 1", r"gpus.h100.prize: Extra inputs"),
        ("lengths:", "lenghts:", "lengths: Field required"),
        (
            "response_tokens:",
            "answer_tokens:",
            'lengths.answer_tokens: unknown key; its name is now "response_tokens"',
        ),
    ],
)
def test_a_wrong_table_says_where(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = (RECIPES / FILE).read_text()
    path = tmp_path / FILE
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(RecipeError, match=message):
        read_throughput(path)
