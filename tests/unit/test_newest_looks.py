"""Which look at a model is its newest: the one of the latest as-of, not the one that was taken last."""

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from pipeline.cli.commands import as_of_look
from pipeline.deployer import status
from pipeline.errors import SettingsError
from pipeline.ledger.events import DriftChecked
from pipeline.ledger.newest_looks import newest_looks

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)


def looked(ledger, as_of, verdict, at, model="late"):
    ledger.append(DriftChecked(verdict=verdict, reason=verdict, champion="1", as_of=as_of), model, at=at)


def newest(ledger, *models):
    found = newest_looks(ledger, DriftChecked, models or None)
    return {name: entry.event.as_of[:10] for name, entry in found.items()}


def test_a_look_at_a_past_day_is_not_the_newest(ledger):
    """A check that a person takes as of a past day, or a day to come, leaves status and pages at the monitor's own."""
    looked(ledger, "2026-11-30T06:00:00+00:00", "no drift", "2026-11-30T06:01:00.000Z")
    looked(ledger, "2026-11-30T06:00:00+00:00", "drift", "2026-11-30T06:01:00.000Z", "days")
    looked(ledger, "9999-12-31T00:00:00+00:00", "no verdict", "2026-11-30T08:00:00.000Z")
    looked(ledger, "1900-01-01T00:00:00+00:00", "no verdict", "2026-11-30T08:01:00.000Z")
    assert newest(ledger) == newest(ledger, "late", "days") == {"late": "2026-11-30", "days": "2026-11-30"}
    assert newest(ledger, "late") == {"late": "2026-11-30"}
    assert status._without_verdict(ledger, ["late"]) == {}


def test_a_model_that_is_looked_at_in_its_past_alone_has_the_latest_of_these(ledger):
    """Where each look is as of a past day, as in a demo, the latest day counts, and of one day the last look."""
    for as_of, verdict in (("2013-07-08", "no drift"), ("2013-07-15", "drift"), ("2013-07-15", "no verdict")):
        looked(ledger, as_of, verdict, "2026-11-30T06:00:00.000Z")
    looked(ledger, "2013-07-01", "drift", "2026-11-30T07:00:00.000Z")
    assert newest(ledger) == {"late": "2013-07-15"}
    assert "as of 2013-07-15" in status._without_verdict(ledger, ["late"])["late"]


def test_no_look_is_as_of_a_day_to_come():
    """An as-of of next year is refused by its flag, the end of today is taken, and without one it is now."""
    context = SimpleNamespace(clock=lambda: NOW)
    with pytest.raises(SettingsError, match="--as-of 2027-11-30 00:00: is a day to come"):
        as_of_look(context, datetime(2027, 11, 30, tzinfo=UTC))
    assert as_of_look(context, datetime(2026, 12, 1, tzinfo=UTC)) == datetime(2026, 12, 1, tzinfo=UTC)
    assert as_of_look(context, None) == NOW
