"""How much of the slots was idle, and where the bytes lie outside the DVC remote, as sentences below a bill."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.accounts.idle import IdleShare, idle_shares
from pipeline.accounts.lines import STORED
from pipeline.accounts.money import cents, shown
from pipeline.accounts.storage import GB

if TYPE_CHECKING:
    from pipeline.accounts.statement import Statement


def idle(bill: Statement) -> list[str]:
    """One text with a line for each part of slots, and one for other storage; none for a bill without either."""
    said = [_sentence(each, bill.currency) for each in idle_shares(bill.lines, bill.idle)]
    if bill.places:
        said.append(
            f"{STORED}, as last seen: {', '.join(f'{place} {size / GB:,.3f} GB' for place, size in bill.places.items())}"
        )
    return ["\n".join(said)] if said else []


def _sentence(each: IdleShare, currency: str) -> str:
    if each.share is None or each.amount is None:
        return f"{each.part}: its idle share is not known, nobody watched its processor time in these {each.hours:,.2f} hours"
    told = f"{each.part}: {each.share:.1%} idle, which is {shown(cents(each.amount))} {currency} of the amount above"
    unknown = each.hours - each.watched
    return told + (f"; of {unknown:,.2f} of {each.hours:,.2f} hours it is not known" if unknown >= 0.005 else "")
