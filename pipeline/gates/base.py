"""What a gate says."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Verdict:
    """Passed or not, what was observed, the limit, and why in words."""

    gate: str
    passed: bool
    observed: float
    limit: float
    reason: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        return f"{'passed' if self.passed else 'FAILED'} {self.gate}: {self.reason}"
