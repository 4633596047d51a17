"""From data to the versions that it made, and back."""

from datetime import UTC, datetime

import pytest

from harness.commands import said
from harness.project import customers
from pipeline.context import Context
from pipeline.errors import DataError
from pipeline.ledger.rollout_events import RolloutEnded
from pipeline.ledger.timeline import timeline
from pipeline.runs import steps
from pipeline.runs.provenance import trace
from tests.support.versions import rebuilt, retrain

pytestmark = pytest.mark.usefixtures("trained_before")


def test_a_lost_list_of_partitions_hides_only_its_own_version(project, version_one):
    """A data version whose list of partitions is lost is reported as unreadable, and the others are still traced."""
    context = Context.here()
    retrain(project, "two", datetime(2024, 3, 2, tzinfo=UTC))
    lost = context.registry.version_facts("churn", "1").tags["perennial.data_version"]
    for store in (project / ".dvc" / "cache", project / ".perennial" / "remote"):
        (store / "files" / "md5" / lost[:2] / lost[2:]).unlink()
    traced = trace(context, "2024-02-20")
    assert [v.version for v in traced.versions] == ["2"]
    assert traced.unreadable == [lost]


def test_data_leads_to_versions_and_when_they_were_live(project, version_one):
    """A data version or a partition's date leads to the versions made from it and the times when they were live."""
    context = Context.here()
    retrain(project, "two", datetime(2024, 3, 2, tzinfo=UTC))
    for version in ("1", "2", "1"):
        context.ledger.append(RolloutEnded(version=version, slot="blue", switch_s=0.1), "churn")
    data = context.registry.version_facts("churn", "1").tags["perennial.data_version"]
    (version,) = trace(context, data[:8]).versions
    assert (version.version, version.data_version, len(version.live)) == ("1", data, 2)
    assert version.live[0].end is not None
    assert version.live[1].end is None
    both = trace(context, "2024-02-20").versions
    assert [v.version for v in both] == ["1", "2"]
    assert {v.partition.revision for v in both} == {1}
    for unknown in ("0000", "2031-01-01", "ab"):
        with pytest.raises(DataError, match="is no data version and no partition's date"):
            trace(context, unknown)


def land(run, as_of):
    """A run's snapshot, of which no version comes."""
    context = Context.here()
    steps.run_stage(context, steps.open_run(context, run, "churn", as_of, "a test"), "snapshot")


def test_a_revision_is_rows_that_came_late_or_were_corrected_and_no_later_look(project):
    """A partition gets a new revision for late or corrected rows, and none for labels seen at another as-of."""
    context, day = Context.here(), "2024-02-28"
    for as_of in (2, 1):
        retrain(project, f"look {as_of}", datetime(2024, 3, as_of, tzinfo=UTC))
    land("look 3", datetime(2024, 3, 3, tzinfo=UTC))
    revisions = trace(context, day).revisions["churn"]
    assert [(r.number, r.rows, r.as_of[:10]) for r in revisions] == [(1, 60, "2024-03-02"), (1, 1, "2024-03-01")]
    assert [r.why for r in revisions] == ["first", "labels known at another as-of"]
    frame = customers()
    corrected = frame.customer == frame.customer[frame.seen_at.dt.strftime("%Y-%m-%d") == day].iloc[0]
    frame.loc[corrected, "spend"] += 1
    frame.to_parquet(project / "customers" / "all.parquet")
    retrain(project, "corrected", datetime(2024, 3, 2, tzinfo=UTC))
    land("corrected, earlier", datetime(2024, 3, 1, tzinfo=UTC))
    late = frame[corrected].assign(customer="late")
    late.to_parquet(project / "customers" / "late.parquet")
    retrain(project, "late", datetime(2024, 3, 2, tzinfo=UTC))
    traced = trace(context, day)
    assert [(r.number, r.rows) for r in traced.revisions["churn"]] == [(1, 60), (1, 1), (2, 60), (2, 1), (3, 61)]
    assert [r.why for r in traced.revisions["churn"]][2:] == [
        "late or corrected rows",
        "labels known at another as-of",
        "late or corrected rows",
    ]
    assert [v.partition.revision for v in traced.versions] == [1, 1, 2, 3]
    assert rebuilt("1").identical, "an earlier run still rebuilds with the old one"
    assert "3, as of 2024-03-02: 61 rows" in said(["trace", day]).stdout
    lines = [e.what for e in timeline(context.ledger, "churn") if e.kind == "data_landed"]
    assert "with late or corrected rows" in lines[-1]
    assert "with late or corrected rows" not in lines[1]
