"""Which parts of a stage one process does: `--shard 2/4`."""

from __future__ import annotations

import argparse
from dataclasses import dataclass


@dataclass(frozen=True)
class Shard:
    """Shard `number` of `count`, counted from 1."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Reads "2/4"; argparse turns the error into a message."""
        number, _, count = text.partition("/")
        if not (number.isdigit() and count.isdigit() and 1 <= int(number) <= int(count)):
            raise argparse.ArgumentTypeError(f'"{text}" is not I/N with 1 <= I <= N, e.g. 2/4')
        return cls(int(number), int(count))

    def of(self, parts: int) -> list[int]:
        """The part numbers of this shard."""
        return list(range(self.number - 1, parts, self.count))

    @property
    def lock_name(self) -> str:
        """Distinct for every shard, so that different shards run at once."""
        return f"{self.number}-of-{self.count}"

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"
