"""Amounts of money as exact fractions, so that parts add up to their total however they are cut.

A price of 0.048 an hour is no sum of binary fractions, and a second of it no decimal: Fraction holds both. An amount is rounded
where it is shown, and there by largest remainders: the shown cents of the parts add up to the shown total.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import floor

CENTS = 100
# Digits of an amount in JSON.
DIGITS = 9


def exact(value: float) -> Fraction:
    """The decimal number that a person wrote or a meter rounded to, not its nearest binary fraction."""
    return Fraction(str(value))


def as_float(amount: Fraction) -> float:
    return round(float(amount), DIGITS)


def cents(amount: Fraction) -> int:
    """The amount in cents, half a cent away from zero."""
    whole = floor(abs(amount) * CENTS + Fraction(1, 2))
    return whole if amount >= 0 else -whole


def in_cents(parts: Sequence[Fraction]) -> list[int]:
    """The parts in cents, which add up to their sum in cents: those with the largest remainders are rounded up (Hare and Niemeyer)."""
    rounded = [floor(part * CENTS) for part in parts]
    missing = cents(sum(parts, Fraction(0))) - sum(rounded)
    order = sorted(range(len(parts)), key=lambda i: rounded[i] - parts[i] * CENTS)
    for i in order[:missing]:
        rounded[i] += 1
    return rounded


def shown(whole: int) -> str:
    """Cents as people write them: 123456 is 1,234.56."""
    sign, value = "-" if whole < 0 else "", abs(whole)
    return f"{sign}{value // CENTS:,}.{value % CENTS:02d}"
