"""A team's own gate reports as ours do; what is wrong with it is a failed verdict, never a passed one."""

import json
import sys
from dataclasses import dataclass
from types import SimpleNamespace

import pandas as pd
import pytest

from pipeline.gates import own
from pipeline.gates.base import PackagedModel, Verdict
from pipeline.settings.gates import Gates

PACKAGED = SimpleNamespace(held_out=[1, 2, 3])


def said(monkeypatch, tmp_path, body):
    """The verdict of a gate with this body."""
    (tmp_path / "team_gates.py").write_text(
        f"from pipeline.gates.base import Verdict\nimport numpy as np\n\ndef mine(packaged):\n    {body}\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "team_gates", raising=False)
    return own.verdict_of("team_gates:mine", PACKAGED)


@pytest.mark.parametrize("passed", ["len(packaged.held_out) > 2", "np.bool_(True)"])
def test_a_verdict_is_reported_under_the_name_in_params_yaml(monkeypatch, tmp_path, passed):
    """The verdict has its figures as plain numbers, and the gate's name from gates.own."""
    verdict = said(monkeypatch, tmp_path, f"return Verdict('any name', {passed}, np.float32(3), 2, 'three rows')")
    assert verdict == Verdict("team_gates:mine", True, 3.0, 2.0, "three rows")
    assert type(verdict.passed) is bool and type(verdict.observed) is float


def test_an_interval_and_a_table_go_through_json(monkeypatch, tmp_path):
    """NumPy's numbers become plain ones, so that the ledger can hold them."""
    answer = "Verdict('x', True, 1, 2, 'r', (np.float32(0), 2), table=Table(('rows',), ((np.int64(3),), ('a',))))"
    verdict = said(monkeypatch, tmp_path, f"from pipeline.gates.base import Table; return {answer}")
    assert verdict.interval == (0.0, 2.0)
    assert Verdict.from_dict(json.loads(json.dumps(verdict.as_dict()))) == verdict
    assert [type(row[0]) for row in verdict.table.rows] == [float, str]


def test_words_are_kept_as_a_database_can_hold_them(monkeypatch, tmp_path):
    """Half a letter and a zero byte are left out, a whole file as a reason is cut, and a cell that is no number is text."""
    answer = (
        "Verdict('x', True, 1, 2, 'a\\ud800\\0' + 'b' * 9000, table=Table(('c',), ((float('nan'),), ('\\udfff',))))"
    )
    verdict = said(monkeypatch, tmp_path, f"from pipeline.gates.base import Table; return {answer}")
    assert verdict.reason == "a?" + "b" * (own.MOST_WORDS - 2) + "…"
    assert verdict.table.rows == (("nan",), ("?",))
    json.dumps(verdict.as_dict(), allow_nan=False, ensure_ascii=False).encode()


def test_a_gate_that_does_not_apply_is_left_out(monkeypatch, tmp_path):
    """None is no verdict."""
    assert said(monkeypatch, tmp_path, "return None") is None


@pytest.mark.parametrize(
    "body, reason",
    [
        (
            "return packaged.no_such",
            "AttributeError: 'types.SimpleNamespace' object has no attribute 'no_such' (team_gates.py, line 5)",
        ),
        ("raise SystemExit(0)", "SystemExit: 0"),
        ("raise KeyError", "KeyError: no message"),
        ("return True", "must return a Verdict or None: got True"),
        ("return Verdict('x', 'yes', 1, 2, 'r')", "passed is 'yes', not True or False"),
        ("return Verdict('x', 1, 1, 2, 'r')", "passed is 1, not True or False"),
        ("return Verdict('x', True, None, 2, 'r')", "observed is None, not a number"),
        ("return Verdict('x', True, 1, float('nan'), 'r')", "limit is nan"),
        ("return Verdict('x', True, 1, 2, '')", "reason is '', not words"),
        ("return Verdict('x', True, 1, 2, 'r', interval=(1, 'high'))", "interval is (1, 'high'), not two numbers"),
        ("return Verdict('x', True, 1, 2, 'r', interval=(0, float('inf')))", "interval is (0, inf), not two numbers"),
        ("return Verdict('x', True, 1, 2, 'r', table=[1])", "table is [1], not a Table of rows"),
        ("return Verdict('x', False, 1, 2, 'r', mode='off')", "mode is 'off', not on or warn"),
        ("return Verdict('x', True, 10**400, 2, 'r')", ", not a number"),
        ("return type('V', (Verdict,), {'reason': property(lambda v: 1 / 0)}).__new__(Verdict)", "AttributeError"),
    ],
)
def test_a_faulty_gate_has_not_passed(monkeypatch, tmp_path, body, reason):
    """An error, or an answer that is no verdict, is a failed verdict that says what and where."""
    verdict = said(monkeypatch, tmp_path, body)
    assert not verdict.passed
    assert reason in verdict.reason


@pytest.mark.parametrize("hook", ["no_such_module:mine", "team_gates:nobody"])
def test_a_gate_that_is_not_there_has_not_passed(hook, monkeypatch, tmp_path):
    """A name that leads to no function is a failed verdict."""
    said(monkeypatch, tmp_path, "return None")
    verdict = own.verdict_of(hook, PACKAGED)
    assert not verdict.passed and "importable from the project's folder" in verdict.reason


def test_what_a_gate_does_to_its_rows_the_next_one_does_not_see(monkeypatch, tmp_path):
    """Two teams' gates in one process: the first drops rows and a column of what it got, and what it got beside them."""
    body = "packaged.held_out.drop(index=[0, 1], columns='x', inplace=True); packaged.validation.clear()"
    said(monkeypatch, tmp_path, f"{body}; return Verdict('a', True, len(packaged.held_out), 0, 'r')")
    with (tmp_path / "team_gates.py").open("a") as file:
        file.write(
            "def other(packaged):\n    return Verdict('b', bool(packaged.validation), packaged.held_out['x'].sum(), 0, 'r')\n"
        )
    monkeypatch.delitem(sys.modules, "team_gates", raising=False)
    monkeypatch.chdir(tmp_path)
    files = own.Artifacts(tmp_path, "churn")
    files.folder.mkdir(parents=True, exist_ok=True)
    model = SimpleNamespace(gates=Gates(metric_limit=0.5, own=["team_gates:mine", "team_gates:other"]))
    monkeypatch.setattr(own, "load", lambda root: SimpleNamespace(model=lambda name: model))
    rows = {"held_out": pd.DataFrame({"x": [1.0, 2.0, 3.0], "y": 0.0}), "package": None}
    given = PackagedModel(model=None, validation={"in": 3}, evaluation=None, **rows)
    monkeypatch.setattr(own, "packaged_model", lambda *asked: given)
    asked = ("champion", "version", "backfill", "accept_schema_change", "champion_trained_to", "judged")
    own.main({"model": "churn", **dict.fromkeys(asked), "hooks": list(model.gates.own)})
    told = [json.loads(line) for line in (files.folder / own.REPORT).read_text().splitlines()]
    assert [each["hook"] for each in told] == ["team_gates:mine"] * 2 + ["team_gates:other"] * 2
    found = [each["verdict"] for each in told if "verdict" in each]
    assert [(each["observed"], each["passed"]) for each in found] == [(1.0, True), (6.0, True)]


def test_a_gate_is_named_as_module_and_function():
    """Another form is refused at load."""
    assert Gates(metric_limit=0.5, own=["a.b:c"]).own == ("a.b:c",)
    with pytest.raises(ValueError, match="must be written as module:function"):
        Gates(metric_limit=0.5, own=["just_a_name"])


@pytest.mark.parametrize("columns, expected", [({"x": [1.0, 2.0]}, [2.0, 4.0]), ({"y": [1.0, 2.0]}, None)])
def test_a_gate_gets_the_champions_predictions(columns, expected):
    """A gate has the champion's answers to the held-out rows, as it was judged where that was kept; None where these lack one of its columns, or there is no champion."""
    champion = SimpleNamespace(
        features=["x"],
        predict_frame=lambda rows: rows["x"].to_numpy() * 2,
        reader=SimpleNamespace(schema=SimpleNamespace(doubles=())),
    )
    given = {"model": None, "validation": {}, "evaluation": None, "held_out": pd.DataFrame(columns), "package": None}
    found = PackagedModel(**given, champion=champion).champion_prediction
    assert found is None if expected is None else found.tolist() == expected
    assert PackagedModel(**given).champion_prediction is None
    judged = JudgedOnce()
    assert PackagedModel(**given, champion=champion, judged_champion=judged).champion_prediction is (
        None if expected is None else judged.answers
    )


@dataclass(frozen=True)
class JudgedOnce:
    """A champion as it was judged, which answers otherwise than its package."""

    doubles: tuple = ()
    trained_to: object = None
    answers: object = "as judged"

    def predict_frame(self, rows):
        return self.answers
