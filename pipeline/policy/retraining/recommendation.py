"""What a comparison of policies recommends, in one sentence, and that the history cannot tell where its intervals say so."""

from __future__ import annotations

from pipeline.policy.economics import Worth
from pipeline.policy.retraining import rules
from pipeline.policy.retraining.comparison import Comparison, Saved

NEVER = rules.NEVER.name


def recommendation(comparison: Comparison, worth: Worth, window_days: float) -> str:
    """For windows of so many days."""
    unit, best = worth.unit(window_days), comparison.best
    windows = len(best.costs)
    guessed = f"; guesses in it: {', '.join(worth.guesses)}" if worth.guesses else ""
    over = f"over {windows} windows of {window_days:g} days"

    def money(saved: Saved) -> str:
        low, high = saved.low * unit, saved.high * unit
        return f"{saved.value * unit:,.0f} {worth.currency} ({low:,.0f} to {high:,.0f})"

    if best.policy == NEVER:
        if comparison.tells:
            return f"{NEVER} retrain: {over} every other policy cost more than it saved{guessed}"
        alike = ", ".join(comparison.alike)
        return f"history cannot tell {NEVER} retraining, the cheapest {over}, from {alike}{guessed}"
    saves = f"saves {money(best.against_never)} against never retraining {over}"
    if not comparison.tells:
        return f"history cannot tell whether a retrain pays: {best.policy} was cheapest and {saves}{guessed}"
    others = [name for name in comparison.alike if name != NEVER]
    alike = f", and history cannot tell it from {', '.join(others)}" if others else ""
    return f"use {best.policy}: it {saves}{alike}{guessed}"
