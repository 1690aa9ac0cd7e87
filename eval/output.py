"""Writes a report in its three forms."""

from __future__ import annotations

import dataclasses
import json
import logging
from pathlib import Path
from typing import Any

from eval.html import html
from eval.page import Block, markdown
from eval.results import plain
from wrpo.atomic import replacing

logger = logging.getLogger(__name__)


def write_report(folder: Path, title: str, numbers: dict[str, Any], blocks: list[Block]) -> None:
    """Writes report.json, report.md and report.html."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(plain(_as_dicts(numbers)), indent=1, ensure_ascii=False, allow_nan=False)
    _write(folder / "report.json", text + "\n")
    _write(folder / "report.md", markdown(blocks))
    _write(folder / "report.html", html(title, blocks))
    logger.info("%s: report.html, report.md, report.json", folder)


def _as_dicts(value: Any) -> Any:
    """Dataclasses anywhere inside become mappings."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, dict):
        return {str(key): _as_dicts(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_dicts(item) for item in value]
    return value


def _write(path: Path, text: str) -> None:
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")
