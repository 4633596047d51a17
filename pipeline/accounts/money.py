"""Amounts of money as whole numbers of 10^-12 of the currency, so that parts add up to their total however they are cut.

An amount is made whole once, where its line is made: from there on all sums are exact. It is rounded to cents where it is shown, and
there by largest remainders: the shown cents of the parts add up to the shown total.
"""

from __future__ import annotations

from collections.abc import Sequence

# Of these parts one unit of the currency has so many, and a cent.
WHOLE = 10**12
CENT = WHOLE // 100
# Digits of an amount in JSON.
DIGITS = 9


def whole(value: float) -> int:
    """The amount of a value in the currency."""
    return round(value * WHOLE)


def as_float(amount: int) -> float:
    """An amount, in 10^-12 of the currency, as a number of the currency with DIGITS digits."""
    return round(amount / WHOLE, DIGITS)


def cents(amount: int) -> int:
    """The amount in cents, half a cent away from zero."""
    rounded = (abs(amount) + CENT // 2) // CENT
    return rounded if amount >= 0 else -rounded


def in_cents(parts: Sequence[int]) -> list[int]:
    """The parts in cents, which add up to their sum in cents: those with the largest remainders are rounded up (Hare and Niemeyer)."""
    rounded = [part // CENT for part in parts]
    missing = cents(sum(parts)) - sum(rounded)
    order = sorted(range(len(parts)), key=lambda i: rounded[i] * CENT - parts[i])
    for i in order[:missing]:
        rounded[i] += 1
    return rounded


def shown(amount: int) -> str:
    """Cents as people write them: 123456 is 1,234.56."""
    sign, value = "-" if amount < 0 else "", abs(amount)
    return f"{sign}{value // 100:,}.{value % 100:02d}"
