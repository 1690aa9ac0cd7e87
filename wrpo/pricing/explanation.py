"""The arithmetic of a price in words and numbers, for `plan --explain`."""

from __future__ import annotations

from wrpo.pricing.amounts import amounts_of, left_of
from wrpo.pricing.price import Estimate


def explanation(estimate: Estimate, *, kind: str, decimals: int) -> list[str]:
    """One line per term, then the sum, the memory, and what is left."""
    if estimate.unknown:
        return [f"no price: {estimate.unknown}"]
    lines = []
    for term in estimate.terms:
        if term.gpu_hours is not None:
            lines.append(f"{term.text} = {term.gpu_hours:,.{decimals}f} GPU hours")
        elif term.dollars is not None:
            lines.append(f"{term.text} = ${term.dollars:,.{decimals}f}")
        else:
            lines.append(term.text)
    lines += _sum(estimate, kind=kind, decimals=decimals)
    if estimate.memory:
        lines.append(estimate.memory.text())
    if estimate.note:
        lines.append(f"leaves out: {estimate.note}")
    if 0 < estimate.left < 1:
        rest = left_of(estimate, decimals)
        lines.append(
            f"{estimate.left:.1%} of it is left: {rest.gpu_hours:,.{decimals}f} GPU hours, "
            f"${rest.dollars:,.{decimals}f}"
        )
    return lines


def _sum(estimate: Estimate, *, kind: str, decimals: int) -> list[str]:
    amounts = amounts_of(estimate, decimals)
    computed = [term.gpu_hours for term in estimate.terms if term.gpu_hours is not None]
    paid = [term.dollars for term in estimate.terms if term.dollars is not None]
    lines = []
    if computed:
        added = " + ".join(f"{each:,.{decimals}f}" for each in computed)
        added += f" = {amounts.gpu_hours:,.{decimals}f}" if len(computed) > 1 else ""
        gpus = round(amounts.gpu_hours * estimate.gpu_price, decimals)
        lines.append(
            f"{added} GPU hours x ${estimate.gpu_price:g} = ${gpus:,.{decimals}f}; on "
            f"{estimate.gpus} {kind}: {amounts.hours:,.{decimals}f} hours"
        )
    if paid and (computed or len(paid) > 1):
        first = [round(amounts.gpu_hours * estimate.gpu_price, decimals)] if computed else []
        added = " + ".join(f"${each:,.{decimals}f}" for each in [*first, *paid])
        lines.append(f"{added} = ${amounts.dollars:,.{decimals}f}")
    return lines
