"""Each kind of event has one class, which writes the body that the ledger has always had and reads older ones."""

import dataclasses
import json
import random
from importlib import import_module
from pkgutil import iter_modules

import pytest
import sqlalchemy as sa

from pipeline import ledger as ledger_folder
from pipeline.errors import LedgerError
from pipeline.ledger.chain import canonical, chain_hash
from pipeline.ledger.events import KINDS, Event, UnknownEvent
from pipeline.ledger.json_text import read_json
from pipeline.ledger.rollout_events import RolloutEvent
from pipeline.ledger.store import EVENTS
from tests.support.approval_bodies import APPROVAL_BODIES
from tests.support.decision_bodies import DECISION_BODIES
from tests.support.operation_bodies import OPERATION_BODIES
from tests.support.slo_bodies import SLO_BODIES

MEASURES = {"wall_s": 1.5, "cpu_s": 2.5, "peak_mb": 100.0}
SLOT = {"version": "2", "slot": "green"}
LOOKS = [{"figure": "error_rate", "verdict": "promote"}]
JUDGEMENT = {"verdict": "promote", "reason": "no more errors", "looks": LOOKS}
LANDED = {"2024-01-01.parquet": {"md5": "ab", "rows": 9, "delta_rows": 9, "view_of": None, "why": "first"}}
WATCHED = {
    "champion": "2",
    "predecessor": "1",
    "as_of": "2024-03-01T00:00:00+00:00",
    "decision": "keep",
    "reason": "few",
}

# (kind, body) as the product wrote them when bodies were plain dicts. A kind with several entries was written in several
# places; in those of a rollout, `rollout` is added.
BODIES = [
    ("run_opened", {"as_of": "2024-03-01", "reason": "by hand", "code_revision": "c0ffee", "uncommitted": True}),
    ("step_started", {}),
    ("step_ended", {"state": "failed", "error": "no rows", **MEASURES}),
    (
        "data_landed",
        {
            "data_version": "d.dir",
            "as_of": "2024-03-01",
            "partitions": 29,
            "landed": LANDED,
            "remote": "/remote",
            "pushed_files": 30,
            "pushed_bytes": 4096,
        },
    ),
    (
        "data_landed",
        {
            "data_version": "d.dir",
            "as_of": "2024-03-01",
            "partitions": 29,
            "landed": {},
            "remote": None,
            "pushed_files": 0,
            "pushed_bytes": 0,
            "label_delay_s": {"median": 3600, "p95": None},
        },
    ),
    *DECISION_BODIES,
    *OPERATION_BODIES,
    *APPROVAL_BODIES,
    *SLO_BODIES,
    ("stage_kept", {"stage": "train", "lock": "stages: {}", "pushed_files": 1, "pushed_bytes": 10}),
    ("gates_checked", {"verdicts": [{"gate": "metric", "passed": True}]}),
    (
        "version_registered",
        {
            "version": "2",
            "mlflow_run": "0a",
            "data_version": "d.dir",
            "as_of": "2024-03-01",
            "code_revision": "c0ffee",
            "alias": "challenger",
        },
    ),
    ("run_settled", {"outcome": "version 2 went live", "cost": 0.01, "currency": "EUR"}),
    (
        "retrain_asked",
        {"since": "2024-03-01", "as_of": "2024-03-02", "reason": "drift: spend"},
    ),
    (
        "drift_checked",
        {
            "verdict": "drift",
            "reason": "1 feature moved",
            "rows_before": 100,
            "rows_now": 90,
            "features": [{"feature": "spend", "psi": 0.3}],
            "moved": ["spend"],
            "champion": "2",
            "as_of": "2024-03-01",
            "window_start": "2024-02-01",
            "live_quality": {"metric": "roc_auc", "value": None},
            "asked_outside_window": 0,
            "notes": ["labels come late"],
            "receipt": {"decision": "retrain"},
            "decision": "retrain",
            "report": None,
        },
    ),
    ("watched", {**WATCHED, "rows": 40, "excess": None, "low": None}),
    ("watched", {**WATCHED, "rows": 400, "excess": 0.1, "low": 0.05}),
    (
        "interval_scored",
        {
            "interval_start": "2024-03-01T00:00:00Z",
            "interval_end": "2024-03-02T00:00:00Z",
            "version": "3",
            "destination": "scores",
            "rows_in": 60,
            "scored": 58,
            "refused": 2,
            "digest": "d",
            "first_reason": "row 5: column spend must be at least 0; got -1",
            "without_event_time": 0,
            "wall_s": 0.5,
            "cpu_s": 0.4,
            "cost": 0.000006,
            "currency": "USD",
        },
    ),
    ("champion_told", {"version": "3", "move": 12, "digest": "d"}),
    ("ledger_verified", {"intact": True, "events": 90, "anchors": 4, "problem": "", "notes": ["not checked: it"]}),
    ("anchors_accepted", {"reason": "restored", "anchors": ["90:ab"]}),
    ("deployer_called", {"verb": "deploy", "model": "churn", "version": "2", "wait_s": 60}),
    ("deployer_answered", {"verb": "deploy", "outcome": "ok"}),
    ("deployer_refused", {"verb": "deploy", "why": "unknown token", "unwritten_before": 3}),
    ("abort_asked", {"reason": "by hand"}),
    ("abort_asked", {"reason": "by hand", "asked_by": "anna", "version": "3"}),
]
ROLLOUT_BODIES = [
    ("rollout_started", {**SLOT, "strategy": "canary", "reason": "by hand", "before": None}),
    ("rollout_started", {**SLOT, "strategy": "canary", "reason": "by hand", "before": "1"}),
    ("rollback_started", {**SLOT, "left": "3", "reason": "by hand", "asked_by": "anna"}),
    ("slot_starting", {**SLOT, "engine": "docker", "why": "an engine answers"}),
    ("slot_started", {**SLOT, "address": "http://127.0.0.1:1"}),
    ("slot_ready", {**SLOT, "address": "http://127.0.0.1:1", "golden": 20, "ready_s": 0.5}),
    ("slot_ready", {**SLOT, "address": "http://h:1", "golden": 3, "ready_s": 0.5, "settings": {"drain_s": 5}}),
    ("undeploy_started", {"version": "2", "slot": "", "reason": "its block is gone"}),
    ("undeployed", {"version": "2", "slots": ["green: 2"], "reason": "its block is gone"}),
    ("settings_applied", {**SLOT, "settings": {"serving": {"max_rows": 9}}}),
    ("slot_revived", {**SLOT, "engine": "docker"}),
    (
        "slot_died",
        {**SLOT, "engine": "docker", "cause": "killed for memory (exit code 137)", "output": "a | b", "times": 2},
    ),
    ("slot_ending", {**SLOT, "engine": "docker"}),
    ("slot_ended", {**SLOT, "cut_off": None, "engine": "docker"}),
    ("slot_ended", {**SLOT, "cut_off": 0, "engine": "docker"}),
    ("route_moving", {"to": "2", "percent": 10, "mirror": False, "live": "1", "previous": None}),
    ("route_moved", {"to": "2", "percent": 10, "mirror": True, "switch_s": 0.02}),
    ("route_removing", {}),
    ("route_removed", {}),
    (
        "evidence_needed",
        {
            **{"version": "2", "step": "at 10 %", "text": "needs at least 1,424 requests", "off": ["p99_ms"]},
            **{"figures": {"error_rate": 1424, "drift": None}, "requests": 1424, "takes_s": None, "allowed_s": 900.0},
            **{"traffic_requests": 0, "traffic_hours": 24.0},
        },
    ),
    ("rollout_holding", {"version": "2", "percent": 10, "reason": "too few requests"}),
    ("step_baked", {"version": "2", "percent": 10, **JUDGEMENT}),
    ("replayed", {"version": "2", "requests": 9, "rows": 12, "left_out": {"lack calls": 3}, **JUDGEMENT}),
    ("baked", {**SLOT, **JUDGEMENT}),
    (
        "shadow_ended",
        {**SLOT, "engine": "docker", "engine_reason": "it answers", "strategy": "shadow", "champion": "1", **JUDGEMENT},
    ),
    ("promoting", {"version": "2"}),
    ("promoted", {"version": "2"}),
    ("demoting", {}),
    ("demoted", {}),
    ("prune_failed", {"error": "disk"}),
    (
        "rollout_ended",
        {
            **SLOT,
            "engine": "docker",
            "engine_reason": "it answers",
            "strategy": "canary",
            "reason": "by hand",
            "previous": None,
            "ready_s": 1.0,
            "switch_s": 0.1,
            "to_traffic_s": 3.0,
        },
    ),
    ("rollout_ended", {**SLOT, "already_live": True, "switch_s": 0.0}),
    ("rollout_ended", {**SLOT, "switch_s": 0.0, "completed_later": True, "previous": None}),
    ("rolled_back", {**SLOT, "left": "3", "reason": "by hand", "warm": True, "switch_s": 0.1}),
    ("rolled_back", {**SLOT, "left": "3", "reason": "version 3 failed"}),
    ("rolled_back", {**SLOT, "left": "3", "reason": "by hand", "switch_s": 0.0, "completed_later": True}),
    ("rollout_failed", {**SLOT, "error": "golden request 3 differs"}),
    ("rollout_failed", {"version": "2", "slot": None, "error": "it was cut off"}),
]
ALL = [*BODIES, *((kind, {**body, "rollout": 7}) for kind, body in ROLLOUT_BODIES)]

# Bodies without fields that were added later, with the sentence that the timeline shows for them.
OLDER = [
    ("route_moved", {"to": "2", "switch_s": 0.02}, "version 2 gets 100 %, moved in 0.02 s"),
    ("slot_ended", {**SLOT, "cut_off": 3}, "version 2 ended in green, 3 requests cut off"),
    ("slot_ended", SLOT, "version 2 ended in green, an unknown number of requests cut off"),
    ("baked", SLOT, ""),
    ("rollout_ended", {**SLOT, "switch_s": 0.1}, "version 2 live in green, switched in 0.10 s"),
    ("rolled_back", {**SLOT, "left": "3", "reason": "slow"}, "back to version 2 in green: slow"),
    ("run_opened", {"as_of": "2024-03-01", "reason": "by hand"}, "run opened as of 2024-03-01: by hand"),
    (
        "data_landed",
        {"data_version": "d.dir", "as_of": "2024-03-01", "partitions": 2},
        "data d.dir: 2 partitions, 0 new; no remote to push to",
    ),
    (
        "data_landed",
        {"data_version": "d", "as_of": "t", "partitions": 2, "label_delay_s": {"median": 3600, "p95": 86_400}},
        "data d: 2 partitions, 0 new; no remote to push to; label delay 1 hour (median), 95 % within 1 day",
    ),
]


def written(ledger, kind, body):
    """The entry of a row with that kind and body, which any version of the product may have written."""
    row = {"seq": 1, "at": "2024-01-01T00:00:00.000Z", "run": "r", "model": "m", "kind": kind, "step": "s"}
    row["body"] = canonical(body)
    with ledger.writing() as connection:
        connection.execute(EVENTS.insert().values(**row, previous="0" * 64, hash=chain_hash("0" * 64, row)))
        assert connection.execute(sa.select(sa.func.count()).select_from(EVENTS)).scalar_one() == 1
    (entry,) = ledger.events()
    return entry


@pytest.mark.parametrize(("kind", "body"), ALL)
def test_an_event_writes_the_body_it_was_read_from(kind, body):
    """Reading a body and writing it again gives the same keys and values, no more and no fewer."""
    assert KINDS[kind].read(body).body() == body


@pytest.mark.parametrize(("kind", "body"), ROLLOUT_BODIES)
def test_without_a_lease_a_body_has_no_rollout(kind, body):
    """`rollout` is left out of the body of an event that was written without a lease."""
    assert KINDS[kind].read(body).body() == body


def test_every_kind_is_checked_here():
    """The bodies above cover all kinds that are registered."""
    assert {kind for kind, _ in ALL} == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_field_that_no_longer_exists_is_ignored(kind):
    """A body with an unknown key is read as if it did not have that key, except for a deployer's free arguments."""
    body = dict(next(body for name, body in ALL if name == kind))
    event = KINDS[kind].read({**body, "gone_since": 1})
    assert event.body() == (body | {"gone_since": 1} if kind == "deployer_called" else body)


@pytest.mark.parametrize(("kind", "body", "sentence"), OLDER)
def test_an_older_body_is_read_with_defaults(ledger, kind, body, sentence):
    """A body without later fields is read, and has its sentence."""
    event = written(ledger, kind, body).event
    assert isinstance(event, KINDS[kind])
    assert event.sentence() == sentence


def test_each_kind_is_registered_once():
    """Every class with a kind is in KINDS under that kind, and no two classes share one."""
    names = [found.name for found in iter_modules(ledger_folder.__path__) if found.name.endswith("events")]
    modules = [import_module(f"pipeline.ledger.{name}") for name in names]
    classes = [
        value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Event) and value.__module__ == module.__name__ and value.KIND
    ]
    assert sorted(cls.KIND for cls in classes) == sorted(KINDS)
    assert all(KINDS[cls.KIND] is cls for cls in classes)


def test_a_kind_that_is_taken_is_refused():
    """A second class of a kind would read the rows of the first; its definition fails and the first one stays."""
    before = KINDS["promoted"]
    with pytest.raises(ValueError, match="promoted: Promoted has it already"):
        type("Other", (Event,), {"__annotations__": {}}, kind="promoted")
    assert KINDS["promoted"] is before


def test_the_kind_is_the_name_of_the_class():
    """A kind is its class's name in snake_case, so that a reader of the ledger finds the class."""
    for kind, cls in KINDS.items():
        assert "".join(word.capitalize() for word in kind.split("_")) == cls.__name__


def test_all_events_of_a_rollout_can_carry_its_lease():
    """Each kind in rollout_events has the field `rollout`; no other kind has it."""
    carrying = {kind for kind, cls in KINDS.items() if "rollout" in {f.name for f in dataclasses.fields(cls)}}
    assert carrying == {kind for kind, cls in KINDS.items() if issubclass(cls, RolloutEvent)}
    assert carrying == {kind for kind, cls in KINDS.items() if cls.__module__ == "pipeline.ledger.rollout_events"}


def test_an_event_of_an_unknown_kind_is_read_as_it_is(ledger):
    """A ledger that a newer version wrote can be read: the event keeps its body and has no sentence."""
    event = written(ledger, "cluster_joined", {"nodes": 3}).event
    assert isinstance(event, UnknownEvent)
    assert event.body() == {"nodes": 3}
    assert event.sentence() == ""


@pytest.mark.parametrize(
    ("kind", "body", "missing"),
    [
        ("run_opened", {"code_revision": "c0ffee"}, "as_of, reason"),
        ("rollout_ended", {"slot": "green"}, "version"),
        ("deployer_called", {"model": "churn"}, "verb"),
    ],
)
def test_a_body_without_a_required_field_is_one_line(ledger, kind, body, missing):
    """The error names the event's number, its kind and the fields, and says how to check the ledger."""
    with pytest.raises(LedgerError) as refused:
        _ = written(ledger, kind, body).event
    assert str(refused.value) == (
        f"event 1: the body of this {kind} has no {missing}; run `perennial verify` to check the ledger"
    )


def test_the_ledger_reads_what_it_wrote(ledger):
    """An event of each kind comes back from the ledger as it was appended, and the chain is intact."""
    appended = [ledger.append(KINDS[kind].read(body), "m", "r") for kind, body in ALL]
    assert [(e.kind, e.body) for e in ledger.events()] == [(e.kind, e.body) for e in appended]
    assert [e.event.body() for e in ledger.events()] == [body for _, body in ALL]
    assert ledger.verify() == (len(ALL), None)


@pytest.mark.parametrize(
    "text", ['{"a": NaN}', '{"a": "\\ud800"}', '{"a": 123456789012345678901234567890}', '{"a": 1.5, "é": [1, null]}']
)
def test_a_body_is_read_as_json_reads_it(text):
    """What orjson refuses is read too: NaN, half a surrogate pair, a number of any size."""
    assert repr(read_json(text)) == repr(json.loads(text))


def test_a_number_of_any_length_stays_a_whole_number_wherever_it_stands():
    """Whatever its digits, its sign, its place and the characters around it, a body is read as json reads it."""
    draw = random.Random(0)
    for _ in range(2_000):
        digits = str(draw.randint(1, 9)) + "".join(draw.choices("0123456789", k=draw.randint(0, 30)))
        value = draw.choice(["", "-"]) + digits + draw.choice(["", "", ".5", "e2"])
        beside = draw.choice(["a", "é", "\ud800", "9" * draw.randint(17, 21), f":{digits}"])
        place = draw.choice(['{"%s":%s}', '{"%s": \t%s}', '["%s",%s]', '["%s",\n %s]', '{"%s": [%s]}'])
        text = place % (beside, value)
        assert repr(read_json(text)) == repr(json.loads(text)), text
