"""Scores the answers of a source with every reward of the recipe.

Reads:   RUN/prompts, RUN/sample/SOURCE
Writes:  RUN/score/SOURCE (score = weighted sum of the rewards; each reward as a head)
Run:     python -m data_construction.score --source qwen72b --recipe recipes/llama3-8b-wrpo.yaml
         --source all scores every source that the recipe names; the rewards are loaded once
Resume:  the same command again; finished parts stay
"""

from __future__ import annotations

import argparse
import logging
import math
from typing import TYPE_CHECKING

from data_construction.dropped import check_dropped
from data_construction.shard import Shard
from wrpo.cli import parse_stage, run_main, stage_parser
from wrpo.errors import DataError
from wrpo.recipe import Recipe
from wrpo.sampling import answering_sources, check_source
from wrpo.stage_folder import StageFolder
from wrpo.stages import Pipeline
from wrpo.tables import SCORES, Row, dropped_row, parts, read_parquet, read_rows

if TYPE_CHECKING:
    from data_construction.rewards import Candidate, RewardModel
    from data_construction.rewards.base import Refusal

logger = logging.getLogger(__name__)


class Scorer:
    """Scores any number of sources; rewards are loaded when the first part needs them."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.pipeline = Pipeline(recipe)
        self._rewards: dict[str, RewardModel] | None = None
        self._prompts: dict[str, Row] | None = None

    def run(self, source: str, shard: Shard) -> None:
        """Scores the missing parts of one source."""
        from tqdm import tqdm

        check_source(self.recipe, source)
        stage = f"score/{source}"
        folder = StageFolder(self.pipeline.folder(stage), self.pipeline.key(stage))
        files = parts(self.pipeline.finished(f"sample/{source}"))
        if folder.open(parts=len(files)):
            logger.info("%s: complete, nothing to do (%s)", stage, folder.path)
            return
        with folder.lock(shard.lock_name):
            done = folder.done_parts()
            todo = [part for part in shard.of(len(files)) if part not in done]
            dropped: list[Row] = []
            total = 0
            for part in tqdm(todo, unit="part", desc=stage):
                answers = read_parquet(files[part])
                rows, lost = self._score(answers)
                total, dropped = total + len(answers), dropped + lost
                limit = self.recipe.score.max_dropped_share
                check_dropped(folder, dropped, total=total, limit=limit)
                folder.write_part(part, rows, SCORES, dropped=lost)
            if not folder.finish_parts(len(files)):
                logger.info("%s: shard %s done, others are not", stage, shard)

    def rewards(self) -> dict[str, RewardModel]:
        """The loaded rewards of the recipe, by name."""
        from data_construction.rewards import load_reward

        if self._rewards is None:
            self._rewards = {
                name: load_reward(settings) for name, settings in self.recipe.rewards.items()
            }
        return self._rewards

    def prompts(self) -> dict[str, Row]:
        """Prompts by id."""
        if self._prompts is None:
            rows = read_rows(self.pipeline.finished("prompts"))
            self._prompts = {row["prompt_id"]: row for row in rows}
        return self._prompts

    def _score(self, answers: list[Row]) -> tuple[list[Row], list[Row]]:
        from data_construction.rewards import Candidate

        dropped, kept, candidates = [], [], []
        for answer in answers:
            prompt = self.prompts().get(answer["prompt_id"])
            if prompt is None:
                raise DataError(f"answer to unknown prompt {answer['prompt_id']}; sample again")
            if not answer["text"].strip():
                dropped.append(_dropped(answer, "empty_answer"))
            elif not any(r.covers(prompt["domain"]) for r in self.recipe.rewards.values()):
                dropped.append(_dropped(answer, "no_reward", f"domain {prompt['domain']}"))
            else:
                kept.append((answer, prompt["domain"]))
                candidates.append(Candidate(prompt["messages"], answer["text"], prompt["answer"]))
        values = self._values([domain for _, domain in kept], candidates)
        rows = []
        for (answer, _), heads in zip(kept, values, strict=True):
            problem = _problem(heads)
            if problem is None:
                rows.append(self._row(answer, heads))  # type: ignore[arg-type]
            else:
                dropped.append(_dropped(answer, *problem))
        return rows, dropped

    def _values(
        self, domains: list[str], candidates: list[Candidate]
    ) -> list[dict[str, float | Refusal]]:
        """What each reward says of each candidate whose domain it covers, by name."""
        values: list[dict[str, float | Refusal]] = [{} for _ in candidates]
        for name, reward in self.rewards().items():
            covers = self.recipe.rewards[name].covers
            places = [place for place, domain in enumerate(domains) if covers(domain)]
            scores = reward.score([candidates[place] for place in places]) if places else []
            for place, score in zip(places, scores, strict=True):
                values[place][name] = score
        return values

    def _row(self, answer: Row, values: dict[str, float]) -> Row:
        weights = {name: settings.weight for name, settings in self.recipe.rewards.items()}
        return {
            "prompt_id": answer["prompt_id"],
            "source": answer["source"],
            "index": answer["index"],
            "score": sum(weights[name] * value for name, value in values.items()),
            "heads": [{"name": name, "value": value} for name, value in values.items()],
        }


def _problem(values: dict[str, float | Refusal]) -> tuple[str, str] | None:
    """Why these head values make no score, or None."""
    for name, value in values.items():
        if not isinstance(value, float):
            return value.reason, f"{name}: {value.detail}"
        if not math.isfinite(value):
            return "score_not_finite", f"{name} gave {value}"
    return None


def _dropped(answer: Row, reason: str, detail: str = "") -> Row:
    return dropped_row(
        answer["prompt_id"], reason, detail, source=answer["source"], index=answer["index"]
    )


def _arguments() -> argparse.ArgumentParser:
    parser = stage_parser(__doc__)
    parser.add_argument("--source", required=True, help="a source's name, target, or all")
    parser.add_argument(
        "--shard", type=Shard.parse, default=Shard(1, 1), metavar="I/N", help="do parts I of N"
    )
    return parser


def main() -> None:
    args, recipe = parse_stage(_arguments())
    scorer = Scorer(recipe)
    for source in answering_sources(recipe) if args.source == "all" else [args.source]:
        scorer.run(source, args.shard)


if __name__ == "__main__":
    run_main(main)
