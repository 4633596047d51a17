"""The event of what a backtest keeps where workers share no disk."""

from __future__ import annotations

from pipeline.ledger.events import Event


class BacktestKept(Event, kind="backtest_kept"):
    """The `versions` that learn from `window` days of the model's past are packed in a file of `size_bytes` in the DVC remote, of the hash `pack`."""

    window: str
    pack: str
    versions: int
    size_bytes: int

    def sentence(self) -> str:
        return (
            f"{self.versions} versions of the past that learnt from {self.window} days are kept for the next backtest"
        )
