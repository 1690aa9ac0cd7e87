"""How much work a run is: prompts, responses and their lengths, from what is there already.

What is not known stays None; no number is made up. Lengths are measured as soon as there are
prompts and responses, and until then those of the throughput table.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from wrpo.errors import DataError
from wrpo.pipeline.data_stages import built_from, imitated
from wrpo.pipeline.folder import read_manifest
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.tables import PROMPTS, RESPONSES, parts, read_column, read_table
from wrpo.plan.throughput import Lengths
from wrpo.recipe import TARGET
from wrpo.recipe.build import REFERENCE
from wrpo.recipe.prompts import dataset_responses
from wrpo.recipe.resolved import answered_domains, answering_sources, resolved_sampling, routed
from wrpo.recipe.revise import revised_source
from wrpo.routing.router import Router

MOST_FILES = 64
"""Parts that lengths are read from: enough for a mean, and quick."""


@dataclass(frozen=True)
class Group:
    """Prompts of one domain and split, and the dataset they are expected from; None: any."""

    prompts: int
    sft: bool
    domain: str | None = None
    dataset: str | None = None

    def within(self, domains: Collection[str] | None) -> bool:
        """Whether these may be prompts of the domains; None: of all, and it is not known yet."""
        return domains is None or self.domain is None or self.domain in domains


@dataclass(frozen=True)
class Asked:
    """What a model is asked for: prompts, and responses to all of them together."""

    prompts: int
    responses: int


@dataclass(frozen=True)
class Length:
    """A mean length in tokens."""

    tokens: float
    basis: str


class Volumes:
    """Counts and lengths of one run."""

    def __init__(self, pipeline: Pipeline, lengths: Lengths) -> None:
        self.pipeline = pipeline
        self.recipe = pipeline.recipe
        self.defaults = lengths
        self._responses: dict[str, Length | None] = {}

    @cached_property
    def groups(self) -> list[Group] | None:
        """The prompts; None while nothing says how many there are."""
        folder = self._made("prompts")
        if folder is not None:
            return _made_groups(folder)
        prompts = self.recipe.prompts
        if prompts.expected_prompts is not None:
            return _split(prompts.expected_prompts, prompts.sft_share)
        groups: list[Group] = []
        for name, dataset in prompts.datasets.items():
            made_up = dataset.explore.prompts if dataset.explore else None
            stated = (dataset.limit, dataset.max_prompts, made_up)
            bounds = [bound for bound in stated if bound is not None]
            if dataset.expected_prompts is not None:
                bounds = [dataset.expected_prompts]
            if not bounds:
                return None
            share = prompts.sft_share if dataset.sft_share is None else dataset.sft_share
            domain = None if dataset.domain else dataset.domain_name or name
            groups += _split(min(bounds), share, domain=domain, dataset=name)
        return groups

    def asked(self, source: str, domains: Collection[str] | None = None) -> Asked | None:
        """Prompts and responses of a source, or of the target; of some domains, or of all.

        Where domains are not known yet, every prompt counts.
        """
        if self.groups is None:
            return None
        source = revised_source(source) or source  # each response has one revision
        datasets = dataset_responses(self.recipe.prompts).get(source)
        if datasets:
            return self._given(list(datasets), self.groups, source=source, domains=domains)
        answered = answered_domains(self.recipe, source)
        prompts = responses = 0
        for group in self.groups:
            if source == TARGET and group.sft:
                continue
            if not (group.within(answered) and group.within(domains)):
                continue
            count = round(group.prompts * self._routed_share(source))
            prompts += count
            each = resolved_sampling(self.recipe, source, group.domain)["responses"]
            responses += count * int(each)
        return Asked(prompts, responses)

    def _routed_share(self, source: str) -> float:
        """Share of the prompts that a router sends to a source, of those that it learned from."""
        settings = routed(self.recipe, source)
        if settings is None:
            return 1.0
        shares = Router.load(settings.file).shares
        return float(shares[min(settings.per_prompt, len(shares)) - 1].get(source, 0.0))

    def _given(
        self,
        datasets: list[str],
        groups: list[Group],
        *,
        source: str,
        domains: Collection[str] | None,
    ) -> Asked:
        """Responses that come with datasets: those that were read, else one for each prompt."""
        folder = self._made(f"sample/{source}")
        manifest = read_manifest(folder) if folder else None
        rows = int(manifest["rows"]) if manifest and manifest.get("rows") is not None else None
        known = [group for group in groups if group.dataset in datasets or group.dataset is None]
        everywhere = sum(group.prompts for group in known)
        prompts = sum(group.prompts for group in known if group.within(domains))
        if rows is None:
            return Asked(prompts, prompts)
        responses = round(rows * prompts / max(everywhere, 1))
        return Asked(min(prompts, responses), responses)

    @cached_property
    def prompt(self) -> Length:
        """Length of a prompt, from its characters."""
        folder = self._made("prompts")
        if folder is None:
            return Length(self.defaults.prompt_tokens, "expected length")
        files = parts(folder)[:MOST_FILES]
        chats = pa.concat_tables(read_table(file, ["messages"], PROMPTS) for file in files)
        messages = pc.list_flatten(chats["messages"])
        rows = len(chats)
        characters = pc.sum(pc.utf8_length(pc.struct_field(messages, "content"))).as_py() or 0
        tokens = characters / max(rows, 1) / self.defaults.characters_per_token
        return Length(max(tokens, 1.0), f"{self.defaults.characters_per_token:g} characters each")

    def response(self, source: str) -> Length:
        """Length of a response of a source: its own, else that of the sources, else expected."""
        own = self._measured(source)
        if own is not None:
            return own
        names = [*answering_sources(self.recipe), TARGET]
        others = [length.tokens for name in names if (length := self._measured(name))]
        if others:
            return Length(sum(others) / len(others), "mean of the other models")
        return Length(self.defaults.response_tokens, "expected length")

    def source_response(self) -> Length:
        """Mean length of a response over all sources."""
        lengths = [self.response(name) for name in answering_sources(self.recipe)]
        mean = sum(length.tokens for length in lengths) / len(lengths)
        return Length(mean, lengths[0].basis if len({x.basis for x in lengths}) == 1 else "mixed")

    def rows(self, table: str) -> tuple[int | None, str]:
        """Rows of a training table: counted, or at most the prompts of its split."""
        folder = self._made(f"build/{table}")
        manifest = read_manifest(folder) if folder else None
        if manifest and manifest.get("rows") is not None:
            return int(manifest["rows"]), f"build/{table} is made"
        if self.groups is None or table in self.recipe.build.imported.tables():
            return None, ""
        if table == "sft":
            sft = sum(group.prompts for group in self.groups if group.sft)
            return sft, "at most one row per SFT prompt"
        preference = sum(group.prompts for group in self.groups if not group.sft)
        if table in ("triples", "delta"):
            return preference, "at most one row per preference prompt"
        if table == "rejection":
            return self._accepted(preference)
        if table == "responses":
            each = self._said("responses") + (REFERENCE in imitated(self.recipe))
            return preference * each, f"at most {each} rows per preference prompt"
        share = preference / max(sum(group.prompts for group in self.groups), 1)
        asked = [self.asked(source) for source in answering_sources(self.recipe)]
        pairs = round(share * sum(each.prompts for each in asked if each))
        return pairs, "at most one row per preference prompt and source"

    def _accepted(self, prompts: int) -> tuple[int, str]:
        """Rows of rejection sampling, when all pass."""
        each = self._said("rejection")
        keep = self.recipe.build.rejection.keep
        most = each if keep is None else min(keep, each)
        return prompts * most, f"at most {most} rows per preference prompt"

    def _said(self, table: str) -> int:
        """Responses to one prompt of all models that a table is built from."""
        names = built_from(self.recipe, table)
        return sum(int(resolved_sampling(self.recipe, name)["responses"]) for name in names)

    def _measured(self, source: str) -> Length | None:
        """From the parts of its sample stage, finished or not."""
        if source not in self._responses:
            counts = None
            if f"sample/{source}" in self.pipeline.stages:
                counts = _token_counts(self.pipeline.folder(f"sample/{source}"))
            mean = pc.mean(counts).as_py() if counts is not None else None
            self._responses[source] = Length(mean, "its own responses") if mean else None
        return self._responses[source]

    def _made(self, stage: str) -> Path | None:
        """Folder of a finished stage of these settings."""
        if stage not in self.pipeline.stages or self.pipeline.state(stage) != "done":
            return None
        return self.pipeline.finished(stage)


def _split(
    prompts: int, sft_share: float, *, domain: str | None = None, dataset: str | None = None
) -> list[Group]:
    sft = round(prompts * sft_share)
    parts_ = ((sft, True), (prompts - sft, False))
    return [Group(count, sft=is_sft, domain=domain, dataset=dataset) for count, is_sft in parts_]


def _made_groups(folder: Path) -> list[Group]:
    """Counts of domains and splits; from all parts, because counts are no means."""
    tables = [read_table(file, ["domain", "split"], PROMPTS) for file in parts(folder)]
    if not tables:
        return []
    counted = pa.concat_tables(tables).group_by(["domain", "split"]).aggregate([([], "count_all")])
    return [
        Group(row["count_all"], sft=row["split"] == "sft", domain=row["domain"])
        for row in counted.to_pylist()
    ]


def _token_counts(folder: Path) -> pa.ChunkedArray:
    """Tokens of each response of the first parts; unreadable parts are left out."""
    chunks = []
    for file in parts(folder)[:MOST_FILES]:
        try:
            chunks += read_column(file, "token_count", RESPONSES).chunks
        except DataError:
            continue
    return pa.chunked_array(chunks) if chunks else pa.chunked_array([], type=pa.null())
