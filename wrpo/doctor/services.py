"""Datasets, servers, judges, the sandbox and rewards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from wrpo.doctor.checks import CheckContext, Finding
from wrpo.errors import SandboxError
from wrpo.plan.model_shape import shape_of
from wrpo.plan.throughput import devices
from wrpo.recipe.resolved import resolved_engine
from wrpo.recipe.suite import code_tasks, evaluated_tasks
from wrpo.rewards.base import RewardNetwork

_ANSWER_SECONDS = 10
_REWARD_SECONDS = 1800
_LARGE_ON_A_CPU = 1e9
"""Parameters above which a reward is not tried without a GPU."""


def datasets(context: CheckContext) -> Iterator[Finding]:
    """Local files are there; datasets of the hub are known to it."""
    prompts = context.recipe.prompts
    read = {name: entry for name, entry in prompts.datasets.items() if entry.explore is None}
    named = {f"prompts.datasets.{name}": entry.path for name, entry in read.items()}
    for table, imported in context.recipe.build.imported.tables().items():
        named[f"build.imported.{table}"] = imported.path
    for place, path in named.items():
        if Path(path).exists():
            yield Finding("ok", place, f"{path} is there")
        elif Path(path).suffix in (".jsonl", ".json", ".parquet", ".csv"):
            yield Finding("problem", place, f"no file {path}", "correct the path")
        elif context.hub:
            yield _hub_dataset(place, path)


def files(context: CheckContext) -> Iterator[Finding]:
    """Files of the user's own that a later stage reads."""
    recipe = context.recipe
    named = {
        f"{judged.place}.{field}": getattr(judged, field)
        for judged in recipe.eval.judged.values()
        for field in judged.hub_files
    }
    named["eval.include_path"] = recipe.eval.include_path
    named |= {
        f"rewards.{name}.{field}": path
        for name, reward in recipe.rewards.items()
        for field, path in reward.files().items()
    }
    for place, path in named.items():
        if path is not None and not path.exists():
            yield Finding("problem", place, f"no file or folder {path}", "correct the path")


def _hub_dataset(place: str, path: str) -> Finding:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    try:
        HfApi().dataset_info(path, timeout=_ANSWER_SECONDS)
    except (RepositoryNotFoundError, HFValidationError):
        return Finding("problem", place, f"the hub has no dataset {path}", "correct the path")
    except (HfHubHTTPError, OfflineModeIsEnabled, OSError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        return Finding("warning", place, f"{path}: the hub does not answer: {first}")
    return Finding("ok", place, f"the hub has {path}")


def servers(context: CheckContext) -> Iterator[Finding]:
    """Sources behind an API and judges: the key's variable is set, and each endpoint responses."""
    recipe = context.recipe
    named = [(f"sources.{name}", resolved_engine(recipe, name).server) for name in recipe.sources]
    named += [(f"judges.{name}", judge.engine) for name, judge in recipe.judges.items()]
    for place, server in named:
        if server is None:
            continue
        endpoints, variable = server.endpoints, server.api_key_env
        if variable and not os.environ.get(variable):
            remedy = f"export {variable}=..."
            yield Finding("problem", place, f"the variable {variable} is not set", remedy)
        for endpoint in [] if context.offline else endpoints:
            yield _endpoint(place, endpoint, os.environ.get(variable) if variable else None)


def hub_responses() -> bool:
    """Whether the model hub answers soon; asked before its client retries for minutes."""
    url = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    try:
        with urllib.request.urlopen(url, timeout=_ANSWER_SECONDS):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def _endpoint(place: str, url: str, key: str | None) -> Finding:
    request = urllib.request.Request(f"{url}/models")
    if key:
        request.add_header("Authorization", f"Bearer {key}")
    try:
        with urllib.request.urlopen(request, timeout=_ANSWER_SECONDS):
            return Finding("ok", place, f"{url} responses")
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            return Finding("problem", place, f"{url} refuses the key ({error.code})", "set another")
        return Finding("warning", place, f"{url}/models answers with {error.code}")
    except OSError as error:
        reason = getattr(error, "reason", error)
        return Finding("problem", place, f"{url} does not answer: {reason}", "start the server")


def sandbox(context: CheckContext) -> Iterator[Finding]:
    """Tries the sandbox where the recipe runs programs."""
    recipe = context.recipe
    walls = {
        f"rewards.{name}": wall
        for name, reward in recipe.rewards.items()
        if (wall := reward.program_walls()) is not None
    }
    if code_tasks(evaluated_tasks(recipe.eval)):
        walls["eval"] = recipe.eval.sandbox
    for place, wall in walls.items():
        if wall != "bubblewrap":
            yield Finding("warning", place, f"responses run with your rights: sandbox: {wall}")
    if "bubblewrap" not in walls.values():
        return
    from wrpo.sandbox import Sandbox

    try:
        Sandbox()
    except SandboxError as error:
        yield Finding("problem", "sandbox", str(error))
        return
    yield Finding("ok", "sandbox", "bubblewrap's walls and the limits of programs hold")


def rewards(context: CheckContext) -> Iterator[Finding]:
    """Scores of each reward model at batch 1 and batch B, in a process of their own."""
    tried = []
    for name, reward in context.recipe.rewards.items():
        if not (networks := reward.networks()):
            continue
        why_not = next(filter(None, map(_why_not_tried, networks)), None)
        if why_not is None:
            tried.append(name)
        else:
            remedy = "python -m data_construction.scoring.reward_parity does it anyway"
            message = f"batches not compared: {why_not}"
            yield Finding("warning", f"rewards.{name}", message, remedy)
    if tried:
        yield from _parity(context, tried)


def _why_not_tried(network: RewardNetwork) -> str | None:
    shape = shape_of(network.model, revision=network.revision)
    if shape is None or "config.json" not in shape.basis:
        return "its files are not here"
    if not devices() and shape.parameters > _LARGE_ON_A_CPU:
        return "it is large and there is no GPU"
    return None


def _parity(context: CheckContext, names: list[str]) -> Iterator[Finding]:
    command = [
        sys.executable,
        "-m",
        "data_construction.scoring.reward_parity",
        *context.recipe.command_line,
    ]
    command += ["--reward", *names]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_REWARD_SECONDS)
    if done.returncode:
        tail = done.stderr.strip().splitlines()[-1:] or ["no message"]
        yield Finding("problem", "rewards", tail[0])
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            found = json.loads(line)
            name, message = f"rewards.{found['reward']}", found["message"]
            yield Finding("ok" if found["ok"] else "problem", name, message)
