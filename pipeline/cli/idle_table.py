"""How much of the slots was idle, as sentences below a bill."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.accounts.idle import IdleShare, idle_shares
from pipeline.accounts.money import cents, shown

if TYPE_CHECKING:
    from pipeline.accounts.statement import Statement


def idle(bill: Statement) -> list[str]:
    """One text with a line for each part of slots; none for a bill without slots."""
    found = idle_shares(bill.lines, bill.idle)
    return ["\n".join(_sentence(each, bill.currency) for each in found)] if found else []


def _sentence(each: IdleShare, currency: str) -> str:
    if each.share is None or each.amount is None:
        return f"{each.part}: its idle share is not known, nobody watched its processor time in these {each.hours:,.2f} hours"
    told = f"{each.part}: {each.share:.1%} idle, which is {shown(cents(each.amount))} {currency} of the amount above"
    unknown = each.hours - each.watched
    return told + (f"; of {unknown:,.2f} of {each.hours:,.2f} hours it is not known" if unknown >= 0.005 else "")
