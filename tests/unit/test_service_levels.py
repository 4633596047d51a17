"""Service levels by the sources' equations, their budgets, and what a burning budget leads to."""

import math
import re
from datetime import UTC, datetime

import pytest
import yaml

from harness.ledgers import ledger_of
from harness.project import CHURN, ROOT
from pipeline.ledger.events import Event
from pipeline.ledger.rollout_events import RolledBack, RolloutEnded
from pipeline.ledger.slo_events import BudgetBurning, BudgetCalm, BudgetRestored, BudgetSpent, BurnRollbackHeld
from pipeline.policy import service_levels
from pipeline.policy.service_levels import Counted, Span
from pipeline.reliability import grafana, prometheus
from pipeline.reliability.counts import HOUR_S, MINUTES_KEPT_S, Cell, Counts
from pipeline.reliability.judging import Judge, burning_now, burnt_version, told_held
from pipeline.reliability.report import LevelReport, reports
from pipeline.reliability.slot_page import SlotTotals
from pipeline.serving.identity import Identity
from pipeline.serving.latency_bounds import SECONDS
from pipeline.serving.metrics import Metrics
from pipeline.settings.models import Model
from pipeline.settings.slo import Burn, Slo

NOW = 1_800_000_000
PAGING = Burn(rate=14.4, hours=1)
AVAILABILITY, SUCCESS, P95 = service_levels.objectives(Slo(p95_ms=100))


def of_seconds(latencies):
    """The latencies as a slot counts them."""
    metrics = Metrics({"model": "m"})
    for seconds in latencies:
        metrics.count_response(200, seconds)
    return SlotTotals.of_page(metrics.page()[0].decode())


def span(seconds=3600.0, **counts):
    return Span(Counted(**counts), seconds)


@pytest.mark.parametrize(
    ("count", "p", "expected"), [(1, 99, 1), (20, 95, 19), (100, 50, 50), (101, 99, 100), (3, 50, 2)]
)
def test_a_percentile_is_the_latency_of_that_rank(count, p, expected):
    """The percentile p of N latencies is the one of rank ⌈pN/100⌉ in their order."""
    assert service_levels.rank(count, p) == expected


@pytest.mark.parametrize("p", [1, 50, 95, 99, 100])
def test_a_percentile_of_a_slots_buckets_is_near_the_exact_one(p):
    """Of answers that a slot counted in buckets each percentile is within the bucket of the exact one."""
    exact = [0.0007 * 1.09**step for step in range(100)]
    found, wanted = service_levels.percentile_of(of_seconds(exact).latencies, p), exact[p - 1]
    assert abs(found - wanted) <= 0.26 * wanted


def test_answers_beyond_the_last_bound_are_no_finite_percentile():
    """A percentile among answers slower than the last bound is infinite, and of no answers there is none."""
    assert service_levels.percentile_of(of_seconds([0.01, 99.0]).latencies, 99) == math.inf
    assert service_levels.percentile_of({}, 50) is None


def test_answers_slower_than_a_limit_are_counted_by_their_place_in_its_bucket():
    """A limit that is a bound counts exactly; within a bucket the part above it counts."""
    latencies = of_seconds([0.03] * 10 + [0.2] * 5 + [60.0]).latencies
    assert service_levels.slower(latencies, 0.1) == 6
    assert service_levels.slower(latencies, SECONDS[-1]) == 1
    assert 0 < service_levels.slower(of_seconds([0.045] * 10).latencies, 0.045) < 10


def test_availability_and_throughput_are_the_sources_equations():
    """A is up checks by checks, X is requests by seconds, and without a count there is neither."""
    assert service_levels.availability(Counted(checks=32, up=31)) == 0.96875
    assert service_levels.availability(Counted()) is None
    assert service_levels.throughput(span(seconds=60, requests=872)) == pytest.approx(872 / 60)
    assert service_levels.throughput(span(seconds=0)) is None


@pytest.mark.parametrize(
    ("down", "short_down", "burns"), [(5, 1, False), (6, 1, True), (6, 0, False), (2, 2, False), (360, 30, True)]
)
def test_a_budget_burns_when_both_windows_say_so(down, short_down, burns):
    """Of 360 checks an hour six failed ones burn 99.9 % at 14.4, if some of them are in the last five minutes."""
    long, short = span(checks=360, up=360 - down), span(300, checks=30, up=30 - short_down)
    found = service_levels.burning(AVAILABILITY, PAGING, long, short)
    assert (found is not None) == burns
    if found:
        assert (found.rate, found.severity) == (pytest.approx(down / 360 / 0.001), "critical")


def test_a_rate_that_no_share_can_reach_counts_as_reached_when_all_is_wrong():
    """With half of the checks allowed to fail, the highest rate is 2, and that is what an alert at 14.4 waits for."""
    objective = service_levels.objectives(Slo(availability=0.5, success=None))[0]
    all_down, most = span(checks=360), span(checks=360, up=1)
    assert service_levels.burning(objective, PAGING, all_down, all_down)
    assert service_levels.burning(objective, PAGING, most, most) is None


def test_the_first_two_minutes_burn_nothing():
    """The first answers of a version are its slowest, so that nothing burns before two minutes were counted."""
    slow = {"requests": 50, "latencies": {0.2: 50}}
    assert service_levels.burning(P95, PAGING, span(110, **slow), span(110, **slow)) is None
    assert service_levels.burning(P95, PAGING, span(130, **slow), span(130, **slow))


def test_a_budget_is_that_of_a_whole_window():
    """Of 30 days at 99.9 % a tenth is spent by 26 failed checks, also when only an hour was counted yet."""
    month = 30 * 86_400
    assert service_levels.spent(AVAILABILITY, span(checks=360, up=334), month) == pytest.approx(26 / 259.2)
    assert service_levels.spent(AVAILABILITY, span(checks=360, up=360), month) == 0
    assert service_levels.spent(SUCCESS, span(month, requests=10_000, failed=20), month) == pytest.approx(2)


def test_a_slots_page_gives_requests_failures_and_latencies():
    """From a slot's own page: a 5xx and what was cut off have failed, a 408 is no answer."""
    metrics = Metrics({"model": "m", "slot": "blue"})
    for code in (200, 200, 404, 408, 500):
        metrics.count_response(code, 0.02)
    metrics.add(5)
    totals = SlotTotals.of_page(metrics.page()[0].decode())
    assert (totals.requests, totals.failed, totals.latencies) == (5, 2, {0.02: 5})
    assert SlotTotals.read(totals.as_text()) == totals
    with pytest.raises(ValueError, match="no latency histogram"):
        SlotTotals.of_page("<html>")


def test_a_slot_that_was_started_anew_counts_from_zero():
    """A counter that fell belongs to a new process, whose whole count is new."""
    before, after = of_seconds([0.02] * 9), of_seconds([0.02] * 4)
    assert after.since(before).requests == 4
    assert of_seconds([0.02] * 9 + [0.3]).since(before) == Counted(requests=1, latencies={0.315: 1})


def test_a_gap_is_neither_up_nor_down(tmp_path):
    """Minutes without a row count as not checked, in the sum and in the report."""
    counts = Counts(tmp_path)
    for start in (NOW - 3600, NOW - 60):
        counts.write({Cell("m", "1", start): Counted(checks=6, up=6)}, {}, NOW)
    (told,) = reports(counts, {"m": None}, 24, now=NOW)
    assert (told.availability, told.checks, told.seconds, told.not_checked_s) == (1.0, 12, 3600, 3480)
    assert LevelReport.from_dict(told.as_dict()) == told


def test_old_minutes_become_hours_and_nothing_is_lost(tmp_path):
    """Folding keeps every count, and drops what is older than any window."""
    counts, start = Counts(tmp_path), NOW // HOUR_S * HOUR_S - 2 * MINUTES_KEPT_S
    cells = {Cell("m", "1", start + 60 * n): Counted(6, 5, 1, 3, 1, {0.02: 3}) for n in range(120)}
    counts.write(cells | {Cell("m", "1", NOW - 200 * 86_400): Counted(checks=1)}, {"slot": "{}"}, NOW)
    for _ in range(2):
        counts.fold(NOW)
    assert counts.span("m", start, NOW).counted == Counted(720, 600, 120, 360, 120, {0.02: 360})
    assert counts.span("m", 0, NOW).counted.checks == 720
    assert counts.totals() == ({"slot": "{}"}, NOW)


@pytest.fixture
def world(tmp_path):
    return ledger_of(tmp_path), Counts(tmp_path)


def model(**slo):
    return Model.model_validate({**CHURN, "slo": {"p95_ms": 100, **slo}})


def minutes(counts, version, ago, count, **each):
    counts.write({Cell("churn", version, NOW - 60 * (ago - n)): Counted(**each) for n in range(count)}, {}, NOW)


def live(ledger, version, ago_min, kind: type[Event] = RolloutEnded, **more):
    at = datetime.fromtimestamp(NOW - 60 * ago_min, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    ledger.append(kind(version=version, slot="blue", **more), "churn", at=at)


SLOW, QUICK = {"requests": 20, "latencies": {0.2: 20}}, {"requests": 20, "latencies": {0.02: 20}}


def test_a_burning_budget_is_written_once_until_it_is_calm(world, tmp_path):
    """An alert that goes on, also over a restart, is one event; it ends after ten quiet minutes, and a later one is another."""
    ledger, counts = world
    slo = Slo(p95_ms=100)
    minutes(counts, "1", 30, 30, **SLOW)
    for judge in (Judge(ledger, counts), Judge(ledger, counts)):
        for _ in range(2):
            assert [alert.objective for alert in judge.look("churn", slo, "1", NOW)] == ["p95_ms"]
    assert len(ledger.events(BudgetBurning)) == 1
    assert burning_now(ledger) == {"churn": "error budget burns too fast (critical: slo.p95_ms); `perennial slo churn`"}
    for later in (26_400, 26_700, 27_100, 27_200):
        judge.look("churn", slo, "1", NOW + later)
    assert [e.event.objective for e in ledger.events(BudgetCalm)] == ["p95_ms"]
    assert burning_now(ledger) == {}
    counts.write({Cell("churn", "1", NOW + 30_000 + 60 * n): Counted(**SLOW) for n in range(30)}, {}, NOW)
    judge.look("churn", slo, "1", NOW + 31_800)
    assert len(ledger.events(BudgetBurning)) == 2


def test_a_more_severe_alert_is_written_again(world):
    """What was a warning and becomes critical is told once more."""
    ledger, counts = world
    warning = Slo(p95_ms=100, burn=(Burn(rate=1, hours=1, severity="warning"),))
    minutes(counts, "1", 30, 30, **SLOW)
    judge = Judge(ledger, counts)
    for slo in (warning, Slo(p95_ms=100), warning):
        judge.look("churn", slo, "1", NOW)
    assert [e.event.severity for e in ledger.events(BudgetBurning)] == ["warning", "critical"]


def test_a_spent_budget_is_written_once_and_when_something_is_left_again(world):
    """A window without any budget left is one event, and its end is one."""
    ledger, counts = world
    minutes(counts, "1", 600, 600, checks=6, up=5)
    for _ in range(2):
        Judge(ledger, counts).look_at_budgets("churn", Slo(window_days=1), "1", NOW)
    Judge(ledger, counts).look_at_budgets("churn", Slo(window_days=1), "1", NOW + 90_000)
    assert len(ledger.events(BudgetSpent)) == len(ledger.events(BudgetRestored)) == 1


def test_a_version_whose_budget_burns_soon_after_its_rollout_goes_back(world):
    """Within keep_hours and with a warm predecessor that was quick, the live version is to go back, with the figures as reason."""
    ledger, counts = world
    minutes(counts, "1", 60, 55, **QUICK)
    minutes(counts, "2", 5, 5, **SLOW)
    live(ledger, "1", 60)
    live(ledger, "2", 5)
    burnt = burnt_version(ledger, counts, "churn", model(), "1", NOW)
    assert (burnt.version, burnt.predecessor, burnt.held) == ("2", "1", "")
    assert "slo.p95_ms: 100 of 100 answers were slower within 1 h" in burnt.reason


def test_a_version_stays_where_a_rollback_would_mend_nothing(world):
    """It stays without a warm predecessor, with rollback_on_burn off, after keep_hours, when it is quick, and while the router is away."""
    ledger, counts = world
    live(ledger, "1", 60)
    live(ledger, "2", 5)
    minutes(counts, "1", 60, 55, **QUICK)
    minutes(counts, "2", 5, 5, **QUICK, checks=6, up=0, away=6)
    assert burnt_version(ledger, counts, "churn", model(), "1", NOW) is None
    minutes(counts, "2", 5, 5, **SLOW)
    late = Model.model_validate({**CHURN, "slo": {"p95_ms": 100}, "rollout": {"keep_hours": 0.05}})
    for settings, before in ((model(), ""), (model(rollback_on_burn=False), "1"), (late, "1")):
        assert burnt_version(ledger, counts, "churn", settings, before, NOW) is None
    without = Model.model_validate(CHURN)
    assert burnt_version(ledger, counts, "churn", without, "1", NOW) is None


def test_a_version_that_came_by_a_rollback_does_not_go_back_again(world):
    """What a rollback brought live is not rolled back in turn."""
    ledger, counts = world
    live(ledger, "2", 60)
    live(ledger, "1", 5, RolledBack, left="2")
    minutes(counts, "1", 5, 5, **SLOW)
    assert burnt_version(ledger, counts, "churn", model(), "2", NOW) is None


def test_a_predecessor_that_burnt_as_well_holds_the_version(world):
    """Where the predecessor was as slow, the version is held, and the ledger says so once for the rollout."""
    ledger, counts = world
    minutes(counts, "1", 60, 55, **SLOW)
    minutes(counts, "2", 5, 5, **SLOW)
    live(ledger, "1", 60)
    live(ledger, "2", 5)
    burnt = burnt_version(ledger, counts, "churn", model(), "1", NOW)
    assert "its predecessor, version 1, burnt it too" in burnt.held
    for _ in range(2):
        told_held(ledger, burnt)
    assert len(ledger.events(BurnRollbackHeld)) == 1


SERIES = re.compile(r"\b((?:perennial|traefik)_\w+)(?:\{([^}]*)\})?")


def exported():
    """The series that a slot exports, each with its labels, and those of Traefik that tests/story/test_server.py asks for."""
    metrics = Metrics(Identity("churn", "1", "blue").labels())
    metrics.count_response(200, 0.01)
    found = {"traefik_router_requests_total": {"router", "method", "code"}}
    found["traefik_router_request_duration_seconds_bucket"] = {"router", "le"}
    for name, labels in re.findall(r"^(perennial_\w+)\{(.*)\} ", metrics.page()[0].decode(), re.MULTILINE):
        found.setdefault(name, set()).update(re.findall(r"(\w+)=\"", labels))
    return found


def not_exported(expressions):
    """What the expressions ask for and nobody exports: series, and labels of them."""
    known, missing = exported(), []
    for name, labels in (asked for expr in expressions for asked in SERIES.findall(expr)):
        wanted = set(re.findall(r"(\w+)\s*(?:=~|!=|!~|=)", labels))
        if name not in known or not wanted <= known[name]:
            missing.append(f"{name}{{{labels}}}")
    return missing


def test_the_rules_of_the_server_ask_for_what_is_exported():
    """Each series of docker/prometheus/rules.yaml, and each label of one, is one that a slot or Traefik has."""
    rules = yaml.safe_load((ROOT / "docker/prometheus/rules.yaml").read_text(encoding="utf-8"))["groups"][0]["rules"]
    asked = [rule["expr"] for rule in rules]
    assert len([name for expr in asked for name, _ in SERIES.findall(expr)]) >= 6
    assert not_exported(asked) == []
    assert not_exported(['rate(perennial_requests_total{modle="m"}[5m]) + perennial_gone']) == [
        'perennial_requests_total{modle="m"}',
        "perennial_gone{}",
    ]


def test_prometheus_rules_and_dashboard_are_of_the_same_objectives():
    """Each rule and panel asks for series that exist, each alert for a rule that is recorded, with the limits of params.yaml."""
    slo = Slo(p95_ms=1000, p99_ms=40)
    groups = yaml.safe_load(prometheus.rules({"churn": slo, "off": Slo(availability=None, success=None)}))["groups"]
    assert [group["name"] for group in groups] == ["perennial-slo-churn"]
    recorded = {(r["record"], r["labels"]["slo"]): r["expr"] for r in groups[0]["rules"] if "record" in r}
    alerts = [rule for rule in groups[0]["rules"] if "alert" in rule]
    panels = yaml.safe_load(grafana.dashboard({"churn": slo}))["panels"]
    asked = [*recorded.values(), *(t["expr"] for p in panels for t in p.get("targets", ()))]
    assert not_exported(asked) == []
    assert len({tuple(alert["labels"].items()) for alert in alerts}) == len(alerts) == 4 * len(slo.burn)
    for alert in alerts:
        used = re.findall(r"(perennial:\w+:\w+)\{", alert["expr"])
        assert len(used) == 2
        assert {(name, alert["labels"]["slo"]) for name in used} <= set(recorded)
    limits = {a["labels"]["slo"]: a["expr"].split(">= ")[-1] for a in alerts if a["labels"]["severity"] == "critical"}
    assert limits == {"availability": "0.006", "success": "0.006", "p95_ms": "0.3", "p99_ms": "0.06"}
    assert 'le=~"1|1.0"' in recorded["perennial:slo_wrong:ratio_rate1h", "p95_ms"]
    assert all(expr.count("(") == expr.count(")") for expr in asked)
