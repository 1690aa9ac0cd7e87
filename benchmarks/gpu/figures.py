"""What the parts of the GPU benchmark hand on: figures, what they should be, and tables of them."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

PACKAGES = ("torch", "transformers", "trl", "accelerate", "peft", "datasets", "vllm", "flash-attn")


@dataclass(frozen=True)
class Figure:
    """One number.

    Attributes:
        part: of the benchmark.
        what: is measured, with what, on what.
        least, most: what it should lie between, where something is asked.
        note: for the reader.
    """

    part: str
    what: str
    value: float
    unit: str = ""
    least: float | None = None
    most: float | None = None
    note: str = ""

    @property
    def reached(self) -> bool | None:
        """Whether it is what is asked; None where nothing is."""
        if self.least is None and self.most is None:
            return None
        over = self.least is None or self.value >= self.least
        return over and (self.most is None or self.value <= self.most)

    def line(self) -> str:
        """For handing it on between processes."""
        return json.dumps(asdict(self))


def machine() -> dict[str, Any]:
    """Hardware, versions and date."""
    import torch

    found: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
        "python": platform.python_version(),
        "machine": platform.machine(),
    }
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        found["gpu"] = properties.name
        found["memory_gib"] = round(properties.total_memory / 2**30, 1)
        found["cuda"] = torch.version.cuda
    return found


def markdown(facts: dict[str, Any], figures: list[Figure], unfinished: list[str]) -> str:
    """One table of all figures under the facts of the machine."""
    told = ", ".join(f"{name} {value}" for name, value in facts.items() if value is not None)
    lines = [
        "# GPU benchmark",
        "",
        told,
        "",
        "| part | what | value | asked | |",
        "|---|---|---|---|---|",
    ]
    for figure in figures:
        least = f"at least {figure.least:g}" if figure.least is not None else ""
        most = f"at most {figure.most:g}" if figure.most is not None else ""
        mark = {True: "yes", False: "**no**", None: ""}[figure.reached]
        value = f"{figure.value:.4g} {figure.unit}".strip()
        value += f" ({figure.note})" if figure.note else ""
        asked = " ".join(part for part in (least, most) if part)
        lines.append(f"| {figure.part} | {figure.what} | {value} | {asked} | {mark} |")
    lines += [f"\nNot finished: {text}" for text in unfinished]
    return "\n".join(lines) + "\n"
