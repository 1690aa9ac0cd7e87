"""docs/adding-an-engine.md works as it stands there: its file, its test, its source."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.docs.changed_code import ChangedCode

_LOAD = """\
from pathlib import Path
from wrpo.recipe import load_recipe
from wrpo.recipe.resolved import resolved_engine
recipe = load_recipe(Path("recipe.yaml"), ["sources=[phi]", "sample.engine.enforce_eager=true"])
print(resolved_engine(recipe, "phi"))
"""


@pytest.mark.slow
def test_the_test_of_the_page_passes_and_a_recipe_names_the_backend(
    write_recipe: Callable[..., Path], tmp_path: Path
) -> None:
    code = ChangedCode(tmp_path / "code", "adding-an-engine.md")
    code.run_tests()
    recipe = write_recipe().read_text(encoding="utf-8")
    (code.folder / "recipe.yaml").write_text(recipe, encoding="utf-8")
    (code.folder / "names.py").write_text(_LOAD, encoding="utf-8")
    assert "backend='ollama'" in code.run("names")
