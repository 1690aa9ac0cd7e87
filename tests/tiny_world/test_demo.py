"""What the demo's flags mean."""

import sys

import pytest

from tiny_world import demo
from wrpo.errors import RecipeError


def test_one_run_cannot_hold_several_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["demo", "--seeds", "1", "2", "--set", "run=mine"])
    with pytest.raises(RecipeError, match="2 seeds need a run each"):
        demo.main()


def test_the_report_is_looked_for_where_the_changes_put_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "call_module", lambda *arguments, **environment: None)
    changes = demo.demo_overrides(1, demo.Path("world"))
    assert demo.run_pipeline("demo", [*changes, "run=mine"]) == demo.Path("runs/mine")
    assert demo.run_pipeline("demo", [*changes, "runs=else"]) == demo.Path("else/demo")
