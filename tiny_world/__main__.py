"""Make the tiny world: python -m tiny_world --seed 1 --out runs/tiny-world/seed-1."""

import argparse
import logging
import sys
from pathlib import Path

from tiny_world.build import WorldSettings, build_world
from wrpo.errors import WRPOError


def main() -> int:
    """Run the command line; returns the exit code."""
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
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    try:
        made = build_world(WorldSettings(args.seed), args.out, force=args.force)
    except WRPOError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    logging.info("%s: %s", args.out, "done" if made else "already there, nothing to do")
    return 0


if __name__ == "__main__":
    sys.exit(main())
