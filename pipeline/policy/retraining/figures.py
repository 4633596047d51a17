"""How a policy writes its figures."""

from __future__ import annotations


def figure(number: float) -> str:
    """Four places, or two significant ones where that would say nothing."""
    number += 0.0  # -0.0 is 0.
    return f"{number:.4f}" if number == 0 or abs(number) >= 0.001 else f"{number:.2g}"
