"""The tree of sub-tasks and the prompts of each, as a judge finds them within a budget.

Explore-Instruct looks ahead (new sub-tasks of a task, shown those that are there), goes back (asks
a task again that has room), and prunes sub-tasks that are like others. Its published code computes
what is pruned and then samples from everything. Here a pruned sub-task is never asked about, has
no children, and gives no prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from data_construction.exploring.questions import (
    is_usable,
    prompts_request,
    read_texts,
    subtasks_request,
)
from data_construction.exploring.similarity import is_like_any, rouge_words
from wrpo.judging import JudgeRequest
from wrpo.recipe.explore import Explore

Ask = Callable[[Sequence[JudgeRequest]], list[str]]
"""From requests to the texts of the replies, in their order."""


@dataclass
class ExploredTask:
    """A task of the tree; `path` begins with the root and ends with its own name."""

    path: tuple[str, ...]
    children: list[ExploredTask] = field(default_factory=list)
    pruned: list[str] = field(default_factory=list)
    prompts: list[str] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """Of its children, and of those that were pruned, which need not be named again."""
        return [*(child.path[-1] for child in self.children), *self.pruned]


@dataclass
class Explorer:
    """Explores one domain.

    Attributes:
        requests: that were sent.
        unread: replies without a list of texts.
        pruned: sub-tasks that were like others.
        refused: prompts that were like others of their task, or of no use.
        out_of_budget: whether `max_requests` stopped it.
    """

    settings: Explore
    ask: Ask
    requests: int = 0
    unread: int = 0
    pruned: int = 0
    refused: int = 0
    out_of_budget: bool = False

    def explore(self) -> list[ExploredTask]:
        """All tasks that are left, by level, the root first, with their prompts."""
        root = ExploredTask((self.settings.task,))
        levels = [[root]]
        self._accepted = [rouge_words(root.path[-1])]
        for _ in range(self.settings.depth):
            self._extend(levels[-1], [task for level in levels for task in level])
            levels.append([child for task in levels[-1] for child in task.children])
        tasks = [task for level in levels for task in level]
        self._enrich(tasks)
        return tasks

    def _extend(self, level: Sequence[ExploredTask], known: Sequence[ExploredTask]) -> None:
        """New children of each task of a level; one that gives nothing new is not asked again."""
        open_ = list(level)
        for number in range(self.settings.tries):
            requests = [
                subtasks_request(
                    task.path,
                    task.names,
                    [one.path[-1] for one in known if one is not task][:20],
                    seed=number,
                )
                for task in open_
            ]
            found = self._ask(requests)
            open_ = [
                task
                for task, names in zip(open_, found, strict=False)
                if self._add_children(task, names) and len(task.children) < self.settings.children
            ]
            if not open_:
                return

    def _add_children(self, task: ExploredTask, names: Iterable[str]) -> bool:
        """Whether one was new; those that are like an accepted task are pruned."""
        grown = False
        for name in names:
            own = rouge_words(name)
            if not own or name in task.names or len(task.children) >= self.settings.children:
                continue
            if is_like_any(own, self._accepted, self.settings.similarity):
                task.pruned.append(name)
                self.pruned += 1
                continue
            self._accepted.append(own)
            task.children.append(ExploredTask((*task.path, name)))
            grown = True
        return grown

    def _enrich(self, tasks: Sequence[ExploredTask]) -> None:
        """Prompts of each task."""
        open_ = list(tasks)
        seen: set[str] = set()
        for number in range(self.settings.tries):
            requests = [prompts_request(task.path, task.prompts, seed=number) for task in open_]
            found = self._ask(requests)
            open_ = [
                task
                for task, prompts in zip(open_, found, strict=False)
                if self._add_prompts(task, prompts, seen)
                and len(task.prompts) < self.settings.examples
            ]
            if not open_:
                return

    def _add_prompts(self, task: ExploredTask, prompts: Iterable[str], seen: set[str]) -> bool:
        """Whether one was new."""
        kept = [rouge_words(prompt) for prompt in task.prompts]
        before = len(kept)
        for prompt in prompts:
            if len(kept) >= self.settings.examples:
                break
            own = rouge_words(prompt)
            if (
                prompt in seen
                or not is_usable(prompt, self.settings)
                or is_like_any(own, kept, self.settings.similarity)
            ):
                self.refused += 1
                continue
            seen.add(prompt)
            kept.append(own)
            task.prompts.append(prompt)
        return len(kept) > before

    def _ask(self, requests: Sequence[JudgeRequest]) -> list[list[str]]:
        """The texts of each reply; those beyond the budget are not asked for, and lack."""
        left = self.settings.max_requests - self.requests
        if len(requests) > left:
            self.out_of_budget = True
            requests = requests[:left]
        self.requests += len(requests)
        replies = [read_texts(reply) for reply in (self.ask(requests) if requests else [])]
        self.unread += sum(texts is None for texts in replies)
        return [texts or [] for texts in replies]
