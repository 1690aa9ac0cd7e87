"""Make the tiny world: python -m tiny_world --seed 1 --out runs/tiny-world/seed-1."""

import argparse
import logging
from pathlib import Path

from wrpo.cli import run_main

logger = logging.getLogger(__name__)


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tiny_world",
        description="Make small source models, a target, a reward model, prompts and an "
        "evaluation task on two CPU cores, in about two minutes.",
    )
    parser.add_argument("--seed", type=int, default=1, help="decides all of it (default: 1)")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument(
        "--force", action="store_true", help="replace a world that was made with other settings"
    )
    parser.add_argument(
        "--shared-tokenizer",
        action="store_true",
        help="the sources have the target's tokenizer and chat template",
    )
    parser.add_argument(
        "--target-layers", type=int, default=2, help="of the target (default: %(default)s)"
    )
    args = parser.parse_args()
    from tiny_world.build import WorldSettings, build_world

    settings = WorldSettings(
        args.seed, shared_tokenizer=args.shared_tokenizer, target_layers=args.target_layers
    )
    made = build_world(settings, args.out, force=args.force)
    logger.info("%s: %s", args.out, "done" if made else "already there, nothing to do")


if __name__ == "__main__":
    run_main(main)
