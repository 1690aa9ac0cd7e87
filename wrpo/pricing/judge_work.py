"""What asking a judge costs, whether it gives rewards or verdicts of a benchmark."""

from __future__ import annotations

from wrpo.pricing.facts import Facts
from wrpo.pricing.work import Work


def ask_judge(
    facts: Facts,
    work: Work,
    name: str,
    *,
    calls: int,
    told: str,
    read: float,
    written: float | None = None,
) -> None:
    """Adds the calls of one judge; without prices in the recipe they are only counted.

    Args:
        told: where the number of calls is from.
        read: tokens of a call beside the judge's instructions.
        written: tokens of a verdict; None: as expected, within the judge's limit.
    """
    judge, lengths = facts.recipe.judges[name], facts.table.lengths
    read = read + lengths.judge_prompt_tokens
    expected = lengths.judge_reply_tokens
    if written is None:
        written = min(expected, judge.max_tokens or expected)
    line = (
        f"{told} = {calls:,} calls of judge {name} x ({read:,.0f} tokens in, {written:,.0f} out, "
        "expected)"
    )
    if judge.input_price is None or judge.output_price is None:
        work.tokens += calls * (read + written)
        work.tell(line)
        work.notes.append(
            f"{calls:,} calls of judge {name}: write judges.{name}.input_price and output_price, "
            "0 where you serve it yourself"
        )
        return
    prices = (judge.input_price, judge.output_price)
    work.pay(f"{line}: ", read=calls * read, written=calls * written, prices=prices)
