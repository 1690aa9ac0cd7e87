"""Selectors of records learn from their generator what was planted, and nothing from controls."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.wrpo.retrieval.planted import ATTRIBUTES, CONTROLS, exchanges, planted_recall
from wrpo.errors import MissingInputError, RecipeError
from wrpo.retrieval.__main__ import main, measured_retrieval
from wrpo.retrieval.exchanges import DialogueExchange
from wrpo.retrieval.learn import train_dialogues
from wrpo.retrieval.model import DialogueModel
from wrpo.retrieval.settings import Method, RetrievalTraining

TRAIN, HELD_OUT = exchanges(2000, seed=0), exchanges(150, seed=1)
HOW: dict[str, Any] = {"batch": 16, "refresh": 50}


def start(method: Method, generator: Path, encoder: Path, **options: Any) -> DialogueModel:
    return DialogueModel.start(method, str(generator), str(encoder), ATTRIBUTES, **options)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["maker", "mk-tod"])
def test_the_planted_record_is_found_and_controls_do_not_find_it(
    method: Method, tmp_path: Path
) -> None:
    """First the generator learns to answer from all three records; then each signal teaches."""
    found = planted_recall(method, tmp_path, seed=0)
    assert found["responses"] > 0.9, found
    controls = max(found[name] for name in ("before", *CONTROLS[method][1:]))
    assert found["none"] > 0.9 and controls < 0.5, found


def test_the_warm_up_finds_the_record_whose_values_are_in_the_response(
    generator: Path, encoder: Path
) -> None:
    """Here the response repeats the name, so that distant supervision sees the right record."""
    model = start("mk-tod", generator, encoder, top=2)
    named = [
        DialogueExchange(one.context, one.context.removeprefix("user: "), one.records)
        for one in TRAIN
    ]
    how = RetrievalTraining(steps=1, warm_up=120, selector_rate=2e-3, batch=8)
    train_dialogues(model, named, how)
    assert measured_retrieval(model, named[:60])[1]["recall_at_1"] > 0.8


@pytest.mark.slow
def test_the_attribute_selector_drops_what_is_never_spoken_of(
    generator: Path, encoder: Path
) -> None:
    """Names and telephones are said, areas are not."""
    train, (held, *_) = exchanges(500, seed=0, areas=True), exchanges(9, seed=1, areas=True)
    model = start("maker", generator, encoder, top=3)
    assert all("area" in text for text in model.respond([held])[0][0].texts)
    log = train_dialogues(
        model, train, RetrievalTraining(steps=40, selectors_from=40, selector_rate=3e-3, **HOW)
    )
    assert log[-1]["attributes"] < 0.2 * log[0]["attributes"]
    texts = model.respond([held])[0][0].texts
    assert all("name: " in text and "phone: " in text and "area" not in text for text in texts)


def test_training_again_gives_the_same_losses(generator: Path, encoder: Path) -> None:
    methods: tuple[Method, ...] = ("mk-tod", "mk-tod", "maker")
    logs = []
    for method in methods:
        torch.manual_seed(1)  # the head of the attribute selector is drawn
        model = start(method, generator, encoder, top=2)
        logs.append(train_dialogues(model, TRAIN, RetrievalTraining(steps=3)))
    assert logs[0] == logs[1]
    assert set(logs[0][0]) == {"generator", "margin", "marginal"}
    assert set(logs[2][0]) == {"generator", "attributes", "distillation"}


def test_the_best_records_are_those_of_a_search_through_all(generator: Path, encoder: Path) -> None:
    model = start("maker", generator, encoder, top=2)
    for one, (found, _) in zip(HELD_OUT[:5], model.respond(HELD_OUT[:5]), strict=True):
        with torch.no_grad():
            (scores,) = model.scores([one], [range(3)]).tolist()
        ranked = sorted(range(3), key=lambda place: -scores[place])
        assert found.places == ranked[:2]
        assert found.scores == pytest.approx([scores[place] for place in ranked[:2]], abs=1e-4)


def test_exchanges_with_different_numbers_of_records_keep_their_order(
    generator: Path, encoder: Path
) -> None:
    model = start("mk-tod", generator, encoder, top=3)
    mixed = [
        DialogueExchange(one.context, one.response, one.records[: 2 + number % 2])
        for number, one in enumerate(HELD_OUT[:6])
    ]
    together = model.respond(mixed)
    assert [len(found.places) for found, _ in together] == [2, 3, 2, 3, 2, 3]
    for one, (found, response) in zip(mixed, together, strict=True):
        ((alone, said),) = model.respond([one])
        assert (found.places, response) == (alone.places, said)


def write(path: Path, rows: list[DialogueExchange], *, own: bool = True) -> Path:
    lines = []
    for one in rows:
        role, _, content = one.context.partition(": ")
        row = {"messages": [{"role": role, "content": content}], "response": one.response}
        lines.append(json.dumps({**row, "records": list(one.records)} if own else row))
    path.write_text("\n".join(lines) + "\n")
    return path


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> None:
    monkeypatch.setattr(sys, "argv", ["retrieval", *map(str, arguments)])
    main()


@pytest.mark.parametrize("method", ["maker", "mk-tod"])
def test_the_command_trains_saves_and_measures_again_alike(
    method: str,
    generator: Path,
    encoder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    train = write(tmp_path / "train.jsonl", TRAIN[:20], own=False)
    held = write(tmp_path / "held.jsonl", HELD_OUT[:8], own=False)
    records = tmp_path / "records.jsonl"
    records.write_text("".join(json.dumps(record) + "\n" for record in TRAIN[0].records))
    files = ("--held-out", held, "--records", records)
    models = ("--generator", generator, "--encoder", encoder, "--method", method)
    short = ("--steps", "2", "--batch", "4", "--warm-up", "1", "--top", "2")
    call(monkeypatch, "--train", train, *files, *models, *short, "--out", tmp_path / "a")
    first = json.loads(capsys.readouterr().out)
    assert first["exchanges"] == 8 and 0 <= first["entity_f1"] <= 1
    call(monkeypatch, "--model", tmp_path / "a", *files, "--out", tmp_path / "b")
    assert json.loads(capsys.readouterr().out) == first
    rows = [(tmp_path / name / "responses.jsonl").read_text() for name in "ab"]
    assert [json.loads(row)["places"] for row in rows[0].splitlines()] == [
        json.loads(row)["places"] for row in rows[1].splitlines()
    ]
    assert len(json.loads(rows[0].splitlines()[0])["texts"]) == 2


def test_flags_that_do_not_go_together_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = ("--held-out", tmp_path / "none.jsonl", "--out", tmp_path / "out")
    with pytest.raises(RecipeError, match="--train needs --generator"):
        call(monkeypatch, *held, "--train", "x")
    with pytest.raises(RecipeError, match="trained already"):
        call(monkeypatch, *held, "--model", tmp_path, "--train", "x")
    with pytest.raises(MissingInputError, match="no such file"):
        call(monkeypatch, *held, "--model", tmp_path)
    with pytest.raises(RecipeError, match="--selectors-from is -1; give 0 or more"):
        RetrievalTraining(selectors_from=-1)
    with pytest.raises(MissingInputError, match=r"no retrieval\.json; train one"):
        DialogueModel.load(tmp_path)
