"""One stage of the pipeline, as data, and how its key names models and files: by content."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from wrpo.files import is_file, is_folder
from wrpo.ids import digest

StageKind = Literal[
    "explore",
    "prompts",
    "sample",
    "score",
    "revise",
    "build",
    "consistency",
    "prune",
    "sft",
    "logprobs",
    "teacher_logits",
    "train",
    "merge",
    "eval",
    "responses",
    "judge",
    "report",
]

MODULES: dict[StageKind, str] = {
    "explore": "data_construction.explore",
    "prompts": "data_construction.prompts",
    "sample": "data_construction.sample",
    "score": "data_construction.score",
    "revise": "data_construction.revise",
    "build": "data_construction.build",
    "consistency": "data_construction.consistency",
    "prune": "wrpo.pruning",
    "sft": "wrpo.train_sft",
    "logprobs": "data_construction.logprobs",
    "teacher_logits": "data_construction.teacher_logits",
    "train": "wrpo.train",
    "merge": "wrpo.merge",
    "eval": "eval.run",
    "responses": "eval.generate",
    "judge": "eval.judge",
    "report": "eval.report",
}
"""The module that runs each kind of stage."""

Settings = dict[str, Any]


@dataclass(frozen=True)
class Stage:
    """One command of the pipeline.

    Attributes:
        kind: what it does.
        args: the flags that tell it from others of its kind, e.g. {"source": "qwen72b"}.
        inputs: names of the stages it reads.
        round: of fusion, that it belongs to.
        settings: makes the recipe fields that decide its result; it may read files, as models and
            datasets are named by their content.
    """

    kind: StageKind
    args: Mapping[str, str] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    settings: Callable[[], Settings] = dict
    round: int = 1

    @property
    def name(self) -> str:
        """E.g. "sample/qwen72b"; also the folder below the run directory. A model's is its own."""
        if self.kind in ("train", "merge"):
            return "/".join(self.args.values())
        rounds = [f"round-{self.round}"] if self.round > 1 else []
        if self.kind == "revise":  # its responses are read like those that were sampled
            return "/".join([*rounds, "sample", "revised", *self.args.values()])
        return "/".join([*rounds, self.kind, *self.args.values()])

    @property
    def command(self) -> tuple[str, ...]:
        """Module and flags, without recipe and overrides."""
        flags = [word for name, value in self.args.items() for word in (f"--{name}", value)]
        if self.round > 1 and self.kind != "train":  # whose arm says it
            flags += ["--round", str(self.round)]
        return (MODULES[self.kind], *flags)


_WHOLE_BYTES = 64 << 20
_SAMPLES = 256
_SAMPLE_BYTES = _WHOLE_BYTES // _SAMPLES
_RELEVANT = ("*.json", "*.safetensors", "pytorch_model*.bin", "*.jinja", "*.model", "*.txt", "*.py")


def model_identity(model: str, revision: str | None = None) -> str:
    """`name@revision` for a hub model, `name#digest` for a local folder."""
    folder = Path(model)
    if is_folder(folder):
        return f"{folder.name}#{_folder_digest(folder.resolve())}"
    return f"{model}@{revision or 'main'}"


@cache
def _folder_digest(folder: Path) -> str:
    files = sorted({file for pattern in _RELEVANT for file in folder.glob(pattern)})
    return digest([[file.name, file.stat().st_size, file_digest(file)] for file in files])


def file_digest(path: Path) -> str:
    """Digest of a file's size and bytes; above 64 MiB, of 256 evenly spaced blocks of 256 KiB.

    So two checkpoints of 5 GB are told apart when any tensor above 20 MB differs, at the cost of
    reading 64 MiB.
    """
    size = path.stat().st_size
    content = hashlib.sha256(str(size).encode())
    with path.open("rb") as handle:
        if size <= _WHOLE_BYTES:
            content.update(handle.read())
        else:
            for sample in range(_SAMPLES):
                handle.seek(sample * (size - _SAMPLE_BYTES) // (_SAMPLES - 1))
                content.update(handle.read(_SAMPLE_BYTES))
    return content.hexdigest()[:16]


def template_identity(path: Path | None) -> str | None:
    """Identity of a chat template file; None for the model's own template."""
    return None if path is None else file_identity(path)


def file_identity(path: Path) -> str:
    """`name#digest` of a file; its path where it is not there."""
    return f"{path.name}#{file_digest(path)}" if is_file(path) else str(path)
