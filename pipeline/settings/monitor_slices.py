"""Which columns `monitor.slices` may name: those whose values the prediction log has, and which form groups."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pipeline.settings.columns import named_twice


def faults(model: Any) -> Iterator[tuple[str, str]]:
    """(key, what is wrong)."""
    training, slices = model.training, model.monitor.slices
    for name in named_twice(slices):
        yield "monitor.slices", f"named twice: {name}"
    groups = [*training.numeric, *training.categorical]
    for name in slices:
        if name in training.datetime or name in training.text:
            yield "monitor.slices", f"{name} is a time or a free text, and forms no groups"
        elif name not in groups:
            yield "monitor.slices", f"{name} is no feature, and the prediction log has features only"
        elif name in model.rollout.serving.personal:
            yield "monitor.slices", f"{name} is personal (rollout.serving.personal), and forms no groups"
