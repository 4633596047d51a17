"""Compares a figure with its limit. Limits of counts and ratios bind; those of seconds do not, for they depend on the machine."""

from __future__ import annotations


def within_limit(what: str, observed: float, limit: float, binding: bool = True, *, at_least: bool = False) -> bool:
    """Prints the comparison; False when a limit that binds is broken."""
    within = observed >= limit if at_least else observed <= limit
    verdict = "kept" if within else "BROKEN" if binding else "broken here, which may be the machine's fault"
    print(f"limit: {what} at {'least' if at_least else 'most'} {limit:g}: {observed:.2f}, {verdict}")
    return within or not binding
