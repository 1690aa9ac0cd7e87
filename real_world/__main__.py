"""Make the real world: python -m real_world --size small --out runs/real-world/small-seed-1."""

import argparse
import logging
from pathlib import Path

from wrpo.cli import run_main

logger = logging.getLogger(__name__)


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m real_world",
        description="Make a target of 135 M parameters, three sources that are specialists of it, "
        "prompts with verifiers, and evaluation tasks.",
    )
    parser.add_argument("--size", default="small", help="full or small (default: small)")
    parser.add_argument("--seed", type=int, default=1, help="decides all of it (default: 1)")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--wheel", type=Path, help="a copy of the wheel that holds the model")
    parser.add_argument(
        "--model", type=Path, help="folder of a chat model, instead of SmolLM2-135M-Instruct"
    )
    parser.add_argument(
        "--force", action="store_true", help="replace a world that was made with other settings"
    )
    args = parser.parse_args()
    from real_world.build import SIZES, World, build_world
    from wrpo.errors import RecipeError

    if args.size not in SIZES:
        raise RecipeError(f'--size "{args.size}": choose one of {", ".join(SIZES)}')
    world = World(SIZES[args.size], args.seed, model=args.model, wheel=args.wheel)
    made = build_world(world, args.out, force=args.force)
    logger.info("%s: %s", args.out, "done" if made else "already there, nothing to do")


if __name__ == "__main__":
    run_main(main)
