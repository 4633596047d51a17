"""A ledger whose bill is worked out by hand, on whichever database it is."""

from __future__ import annotations

from pipeline.accounts.slots import Size
from pipeline.accounts.statement import Terms
from pipeline.ledger.events import DataLanded, RunSettled, StepEnded, StepStarted, VersionRegistered
from pipeline.ledger.rollout_events import RolledBack, RolloutEnded, SlotEnded, SlotReady, SlotStarted
from pipeline.ledger.store import Ledger
from pipeline.settings.accounts import Prices
from pipeline.settings.economics import Economics

PRICES = Prices.model_validate(
    {
        "cpu_core_hour": 3.6,
        "memory_gb_hour": 0.36,
        "engineer_hour": 60,
        "storage_gb_month": 0.31,
        "transfer_gb": 0.5,
        "services_hour": 0.01,
        "changes": [{"from": "2026-02-01", "cpu_core_hour": 7.2}],
    }
)
ECONOMICS = Economics(retrain_minutes=10, incident_minutes=30)
TERMS = Terms(PRICES, lambda model: ECONOMICS, lambda model: Size(1, 1024))
UNTIL = "2026-02-11T00:00:00.000Z"


def worked_by_hand(ledger: Ledger) -> Ledger:
    """Three runs, one rollback, two months, slots, people."""

    def note(event, at: str, run: str = "", step: str = "", model: str = "m") -> None:
        ledger.append(event, model, run, step, at=f"2026-{at}.000Z")

    def step(run: str, name: str, at: str, cpu_s: float, state: str = "success") -> None:
        note(StepStarted(), at, run, name)
        note(StepEnded(state=state, wall_s=1000.0, cpu_s=cpu_s, peak_mb=1024.0), at, run, name)

    def slot(name: str, version: str, at: str) -> None:
        note(SlotStarted(version=version, slot=name), at)
        note(SlotReady(version=version, slot=name, settings={"serving": {"cpus": 0.5, "memory_mb": 2048}}), at)

    step("r1", "train", "01-22T00:00:00", 1000.0)
    note(
        DataLanded(data_version="d", as_of="2026-01-22", partitions=1, remote="/r", pushed_bytes=2 * 10**9),
        "01-22T00:00:00",
        "r1",
    )
    note(VersionRegistered(version="1", mlflow_run="x", data_version="d", as_of="2026-01-22"), "01-22T00:00:00", "r1")
    slot("blue", "1", "01-22T00:00:00")
    note(RolloutEnded(version="1", slot="blue", digest="d1"), "01-22T00:00:00", "r1")
    step("r2", "train", "02-01T00:00:00", 500.0, "failed")
    step("r2", "train", "02-01T00:00:00", 1000.0)
    note(VersionRegistered(version="2", mlflow_run="x", data_version="d", as_of="2026-02-01"), "02-01T00:00:00", "r2")
    slot("green", "2", "02-01T00:00:00")
    note(RolloutEnded(version="2", slot="green", digest="d2", previous="1"), "02-01T00:00:00", "r2")
    note(RolledBack(version="1", slot="blue", digest="d1", left="2", left_digest="d2"), "02-02T00:00:00")
    note(SlotEnded(version="2", slot="green"), "02-02T00:00:00")
    note(StepStarted(), "02-03T00:00:00", "r3", "train")
    note(RunSettled(outcome="killed"), "02-03T01:00:00", "r3")
    return ledger


# By hand, in USD. An hour of memory of 1 GB costs 0.36, so 1000 s of it 0.1; a processor's second costs 0.001, from February 0.002.
#   steps            r1 1.0 + 0.1 = 1.1; r2 2.0 + 0.1 = 2.1                                                3.20
#   failed attempts  r2 500 s: 1.0 + 0.1                                                                   1.10
#   killed steps     r3 as the three that ended, on average (1.1 + 2.1 + 1.1) / 3 = 1.4333                 1.43
#   transfer         2 GB at 0.5                                                                           1.00
#   storage          2 GB, 10 of January's 31 days: 2 * 10 / 31 * 0.31 = 0.20
#                    2 GB, 10 of February's 28 days: 2 * 10 / 28 * 0.31 = 0.2214                           0.42
#   live slot        an hour is 0.5 * 3.6 + 2 * 0.36 = 2.52, from February 0.5 * 7.2 + 0.72 = 4.32
#                    blue 240 h of January 604.80; green 24 h of February 103.68; blue 9 days more 933.12  1641.60
#   second slot      blue beside green, 24 h of February                                                 103.68
#   services         20 days of 24 h at 0.01                                                               4.80
#   people           2 versions of 10 minutes and a rollback of 30 at 1.00 a minute                        50.00
BY_HAND = {
    "steps": 320,
    "failed attempts": 110,
    "killed steps": 143,
    "storage": 42,
    "transfer": 100,
    "live slot": 164_160,
    "second slot": 10_368,
    "services": 480,
    "people": 5_000,
}
