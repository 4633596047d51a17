"""The interval [start, end) whose rows are scored together. It is the answers' key: they replace each other by it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from pipeline.errors import SettingsError
from pipeline.settings.times import in_supported_years, utc


@dataclass(frozen=True)
class Interval:
    """Both times are UTC. Raises SettingsError for an end that is not after the start."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        if self.start >= self.end:
            raise SettingsError(
                f"interval {self}", "its end is not after its start", "write it like 2024-03-01/2024-03-02"
            )

    @classmethod
    def of(cls, written: str) -> Self:
        """The interval that a person wrote as START/END, ISO 8601. Raises SettingsError."""
        start, _, end = written.partition("/")
        try:
            return cls(*(in_supported_years(utc(datetime.fromisoformat(text.strip()))) for text in (start, end)))
        except ValueError as error:
            raise SettingsError(
                f"interval {written!r}", "is not START/END", "write it like 2024-03-01/2024-03-02T12:00:00Z"
            ) from error

    @classmethod
    def last_complete(cls, cron: str, at: datetime) -> Self:
        """The last interval of the schedule `cron` that had ended at `at`: the one that its Dag's newest run covers."""
        from croniter import croniter

        # From a moment later on, so that an interval which ends now is complete.
        times = croniter(cron, at.timestamp() + 1, ret_type=float)
        end, start = (datetime.fromtimestamp(times.get_prev(), UTC) for _ in range(2))
        return cls(start, end)

    @property
    def name(self) -> str:
        """As a folder's name."""
        return f"{self.start:%Y%m%dT%H%M%S}Z--{self.end:%Y%m%dT%H%M%S}Z"

    def __str__(self) -> str:
        return f"{self.start.isoformat().replace('+00:00', 'Z')}/{self.end.isoformat().replace('+00:00', 'Z')}"
