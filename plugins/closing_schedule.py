"""A cron schedule that ends, for a model whose data ends.

Airflow's own end_date does not do this: every task gets it, and a run that is triggered by hand after that date succeeds
without running a task.
"""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import Any

from airflow.plugins_manager import AirflowPlugin
from airflow.sdk import CronDataIntervalTimetable as OpenCronTimetable
from airflow.sdk.bases.timetable import BaseTimetable
from airflow.timetables.base import DagRunInfo, TimeRestriction, Timetable
from airflow.timetables.interval import CronDataIntervalTimetable
from pendulum import DateTime, instance, parse


class ClosingCronTimetable(CronDataIntervalTimetable):
    """CronDataIntervalTimetable whose last interval ends at `end` at the latest. Runs by hand are not limited."""

    def __init__(self, cron: str, timezone: Any, end: Any) -> None:
        super().__init__(cron, timezone)
        self.end: DateTime = instance(end)

    def next_dagrun_info(self, *, last_automated_data_interval: Any, restriction: TimeRestriction) -> DagRunInfo | None:
        latest = self.end if restriction.latest is None else min(self.end, restriction.latest)
        info = super().next_dagrun_info(
            last_automated_data_interval=last_automated_data_interval,
            restriction=TimeRestriction(restriction.earliest, latest, restriction.catchup),
        )
        # An interval that starts before the end and ends after it would wait for data that never comes.
        return info if info and info.data_interval and info.data_interval.end <= self.end else None

    def serialize(self) -> dict[str, Any]:
        return {**super().serialize(), "end": self.end.isoformat()}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> Timetable:
        open_ended = CronDataIntervalTimetable.deserialize(data)
        return cls(open_ended._expression, open_ended._timezone, parse(data["end"]))


@cache
def cron_schedule(cron: str, end: datetime | None) -> Timetable | BaseTimetable:
    """The timetable of intervals by `cron` in UTC, up to `end` when there is one."""
    if end is None:
        return OpenCronTimetable(cron, timezone="UTC")
    return ClosingCronTimetable(cron, "UTC", end)


class ClosingSchedulePlugin(AirflowPlugin):
    name = "closing_schedule"
    timetables = [ClosingCronTimetable]
