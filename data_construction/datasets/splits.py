"""Which files of a folder are a split, named as `datasets` names them.

* README.md lists them by configuration and split, as in a clone from the hub;
* `train_prefs-00000-of-00002.parquet`, `train_prefs.jsonl` and `train_prefs/a.jsonl` are of the
  split `train_prefs`;
* else a word in the name decides: train, validation (valid, val, dev) or test (eval);
* where no name says anything, all files are one split.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from data_construction.datasets.files import KINDS, file_kind, is_other_table
from wrpo.errors import DataError, MissingInputError, RecipeError

_SHARD = re.compile(r"-\d{5}-of-\d{5}.*")
_WORDS = {
    "train": "train",
    "training": "train",
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
_BESIDE_ROWS = re.compile(r"\..*|dataset_infos?\b.*|_.*")


def split_files(folder: Path, *, config: str | None, split: str, default: str) -> list[Path]:
    """The files of a split, in order.

    Args:
        default: the split that files are where no name says anything.

    Raises:
        MissingInputError: there is none; says which splits there are.
        DataError: files may hold rows, and nothing says of which split, or how to read them.
        RecipeError: no such configuration.
    """
    splits = _listed(folder, config)
    if splits is None:
        splits = _by_name(_files(folder), folder, wanted=split, default=default)
    if not splits.get(split):
        there = ", ".join(sorted(splits)) or "none"
        raise MissingInputError(f"{folder} has no split {split}; it has: {there}")
    return splits[split]


def _files(folder: Path) -> list[Path]:
    files = [
        path for path in sorted(folder.rglob("*")) if path.is_file() and _holds_rows(path, folder)
    ]
    other = next((path for path in files if is_other_table(path)), None)
    if other:
        raise DataError(
            f"{other}: may hold rows, and is not read; unpack or convert it to one of "
            f"{', '.join(KINDS)}, or move it away"
        )
    files = [path for path in files if file_kind(path)]
    if not files:
        raise MissingInputError(
            f"{folder} holds neither a dataset that was saved by save_to_disk nor any file of "
            f"{', '.join(KINDS)}"
        )
    return files


def _holds_rows(path: Path, folder: Path) -> bool:
    return not any(_BESIDE_ROWS.fullmatch(step) for step in path.relative_to(folder).parts)


def _by_name(
    files: list[Path], folder: Path, *, wanted: str, default: str
) -> dict[str, list[Path]]:
    """By the name itself where a file has that of the wanted split, else by the words in names."""
    names = {path: list(_names(path.relative_to(folder))) for path in files}
    words = {path: next(filter(None, map(_word, names[path])), None) for path in files}
    own = [path for path in files if wanted in names[path]]
    several = len({found[0] for found in names.values()}) > 1 and any(map(_is_shard, files))
    if not own and not any(words.values()) and not several:
        return {default: files}
    unnamed = [p for p in files if not (p in own or words[p] or _is_shard(p))]
    if unnamed:
        raise DataError(
            f"{unnamed[0]}: other files of {folder} are named by their split, and this one is not; "
            "rename it or move it away"
        )
    found: dict[str, list[Path]] = {}
    for path in files:
        found.setdefault(names[path][0], []).append(path)
    if own:
        return {**found, wanted: own}
    by_word: dict[str, list[Path]] = {}
    for path, word in words.items():
        by_word.setdefault(str(word or names[path][0]), []).append(path)
    return {**found, **by_word}


def _is_shard(path: Path) -> bool:
    return _SHARD.search(path.name) is not None


def _names(path: Path) -> Iterator[str]:
    """What a file is called, and its folders from the nearest on; without endings and numbers."""
    stem = path.name.partition(".")[0]
    yield _SHARD.sub("", stem)
    for above in path.parents:
        if above.name:
            yield above.name


def _word(name: str) -> str | None:
    words = re.split(r"[-._ 0-9]+", name.lower())
    return next((_WORDS[word] for word in words if word in _WORDS), None)


def _listed(folder: Path, config: str | None) -> dict[str, list[Path]] | None:
    """The files by split that README.md lists for a configuration; None where it lists none."""
    configs = {entry.get("config_name", "default"): entry for entry in _card_configs(folder)}
    if config is not None and config not in configs:
        there = ", ".join(configs) or "none, as its README.md lists no `configs`"
        raise RecipeError(f"{folder} has no config {config}; it has: {there}")
    if not configs:
        return None
    default = [name for name, entry in configs.items() if entry.get("default")]
    name = config or next(iter(["default"] if "default" in configs else default), None)
    if name is None and len(configs) == 1:
        name = next(iter(configs))
    if name is None:
        raise RecipeError(f"{folder} has several configs: {', '.join(configs)}; set config to one")
    data_files = configs[name].get("data_files")
    return None if data_files is None else _matching(folder, data_files)


def _matching(folder: Path, data_files: Any) -> dict[str, list[Path]]:
    entries = data_files if isinstance(data_files, list) else [data_files]
    found: dict[str, list[Path]] = {}
    for entry in entries:
        split, patterns = "train", entry
        if isinstance(entry, dict):
            split, patterns = entry.get("split", "train"), entry.get("path", [])
        for pattern in [patterns] if isinstance(patterns, str) else patterns:
            files = [path for path in sorted(folder.glob(pattern)) if path.is_file()]
            found.setdefault(split, []).extend(files)
    return found


def _card_configs(folder: Path) -> list[dict[str, Any]]:
    card = folder / "README.md"
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    header = re.match(r"---\n(.*?)\n---", text, re.DOTALL)
    try:
        read = yaml.safe_load(header[1]) if header else None
    except yaml.YAMLError as error:
        raise DataError(f"{card}: its header is not YAML: {error}") from None
    configs = read.get("configs") if isinstance(read, dict) else None
    return [entry for entry in configs or [] if isinstance(entry, dict)]
