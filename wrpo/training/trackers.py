"""Experiment trackers of a training stage: `train: {report_to: wandb}`, or trackio, or both."""

from __future__ import annotations

import importlib.util
import logging
import netrc
import os
from pathlib import Path
from typing import Any

from wrpo.errors import RecipeError

logger = logging.getLogger(__name__)

_WANDB_HOST = "api.wandb.ai"
_PACKAGES = ("wandb", "trackio", "tensorboard")


def tracking_arguments(report_to: str | list[str], *, output: Path) -> dict[str, Any]:
    """Defaults of TRL's arguments: the project is the run, and the run in it the stage.

    output: folder of the stage, RUNS/RUN/STAGE.

    Raises:
        RecipeError: the tracker's package is not installed.
    """
    trackers = [report_to] if isinstance(report_to, str) else report_to
    for package in _PACKAGES:
        if package in trackers and importlib.util.find_spec(package) is None:
            raise RecipeError(
                f"train.report_to names {package}, which is not installed; run: pip install "
                f"{package}, or set report_to to none"
            )
    run = output.absolute().parent
    if "wandb" in trackers:
        os.environ.setdefault("WANDB_PROJECT", run.name)
        os.environ.setdefault("WANDB_DIR", str(run))
        _log_offline_without_key()
    return {"project": run.name, "run_name": output.name}


def _log_offline_without_key() -> None:
    """wandb stops a run that has no key; without one it must keep its files here instead."""
    if "WANDB_MODE" in os.environ or "WANDB_API_KEY" in os.environ or _key_in_netrc():
        return
    os.environ["WANDB_MODE"] = "offline"
    logger.info(
        "wandb: no key found, logging offline; later: wandb sync %s/wandb/offline-run-*",
        os.environ["WANDB_DIR"],
    )


def _key_in_netrc() -> bool:
    """Whether `wandb login` has left a key for the server in use."""
    path = Path(os.environ.get("NETRC", Path.home() / ".netrc"))
    server = os.environ.get("WANDB_BASE_URL", f"https://{_WANDB_HOST}")
    host = server.split("://")[-1].split("/")[0].split(":")[0]
    try:
        return netrc.netrc(path).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
