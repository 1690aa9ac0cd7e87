"""Write docs/files.md: every module of the packages with the first sentence of its docstring."""

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "wrpo": "recipes, stages, training",
    "data_construction": "prompts to training rows",
    "eval": "evaluation and report",
    "tiny_world": "the demo's models and prompts",
    "real_world": "a real model, specialists of it, and tasks",
    "benchmarks": "what speed and memory claims rest on",
}
HEAD = """# Files

One line per module, the first sentence of its docstring. `make reference` writes this page.
"""


def first_sentence(module: Path) -> str:
    """Of the docstring, on one line, without its full stop."""
    docstring = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or ""
    paragraph = " ".join(docstring.split("\n\n")[0].split())
    return re.split(r"(?<=[^.])\.(?:\s|$)", paragraph, maxsplit=1)[0].rstrip(".:")


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for package, about in PACKAGES.items():
        parts.append(f"\n## {package}: {about}\n\n| file | what it is |\n|---|---|\n")
        for module in sorted((ROOT / package).rglob("*.py")):
            if sentence := first_sentence(module).replace("|", "\\|"):
                parts.append(f"| `{module.relative_to(ROOT)}` | {sentence} |\n")
    return "".join(parts)


if __name__ == "__main__":
    sys.stdout.write(page())
