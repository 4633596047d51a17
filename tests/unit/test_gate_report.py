"""What the gates said of a run, on a page that is read in a minute."""

import xml.dom.minidom
from dataclasses import replace
from types import SimpleNamespace

import pytest

from pipeline.errors import DataError, RegistryError
from pipeline.gates import calibration, report
from pipeline.gates.base import Table, Verdict
from pipeline.ledger.events import GatesChecked
from pipeline.pages.gates import gates_page
from pipeline.registry import card_records
from pipeline.training.explanation import Explanation

SLICES = Table(("slice", "rows", "roc_auc"), (("plan is a|b", 1200, 0.51234), ("<script>", None, 1e-9)))
VERDICTS = [
    Verdict("enough_rows", True, 1681, 100, "1,681 rows kept"),
    Verdict("champion", True, 0.0, -0.01, "too few rows", judged=False),
    Verdict("naive_baseline", False, 0.001, 0.02, "no better | than a guess", mode="warn"),
    Verdict("metric_limit", False, 0.512349, 0.6, "roc_auc 0.5123", (0.49, 0.53), table=SLICES),
]
RUN = "retrain__churn/scheduled__2024-03-01T00:00:00+00:00"


def test_the_report_begins_with_what_stops_the_version():
    """Then comes what warns, what has no verdict, and what passed, each with its figure, interval, limit and reason."""
    lines = report.markdown("churn", RUN, VERDICTS).splitlines()
    assert lines[2] == (
        f"Run `{RUN}`: FAILED: metric_limit; warned: naive_baseline; no verdict: champion; 1 of 4 passed."
    )
    assert lines[6:10] == [
        "| metric_limit | FAILED | 0.5123 (0.49 to 0.53) | 0.6 | roc_auc 0.5123 |",
        "| naive_baseline | warned | 0.001 | 0.02 | no better \\| than a guess |",
        "| champion | no verdict | – | -0.01 | too few rows |",
        "| enough_rows | passed | 1,681 | 100 | 1,681 rows kept |",
    ]


def test_a_verdicts_table_stands_below():
    """With its cells as plain text: neither Markdown nor HTML reads a category as its own."""
    assert report.markdown("churn", RUN, VERDICTS).splitlines()[-6:] == [
        "## metric_limit",
        "",
        "| slice | rows | roc_auc |",
        "| --- | --- | --- |",
        "| plan is a\\|b | 1,200 | 0.5123 |",
        "| &lt;script> | – | 1e-09 |",
    ]
    page = report.html("churn", RUN, VERDICTS)
    assert "<script>" not in page and "&lt;script&gt;" in page
    assert '<td class="bad">FAILED</td><td class="n">0.5123 (0.49 to 0.53)</td>' in page


def test_the_page_of_a_run_is_from_the_ledger(ledger, monkeypatch):
    """Of the last check of the run, also one of before verdicts had modes; a run without a check has none."""
    old = {"gate": "schema", "passed": True, "observed": 0, "limit": 0, "reason": "the same columns"}
    ledger.append(GatesChecked(verdicts=[replace(VERDICTS[0], reason="of a check before").as_dict()]), "churn", RUN)
    ledger.append(GatesChecked(verdicts=[old, *(verdict.as_dict() for verdict in VERDICTS)]), "churn", RUN)
    monkeypatch.setattr(card_records, "shap_of_run", lambda registry, model, run: {})
    here = SimpleNamespace(ledger=ledger, registry=SimpleNamespace(is_new=False))
    page = gates_page(here, RUN)
    assert "Gates of churn" in page and "the same columns" in page and "of a check before" not in page
    with pytest.raises(DataError, match="run another: has no gates in the ledger"):
        gates_page(here, "another")


def test_the_page_has_what_moves_the_predictions(ledger, monkeypatch):
    """As MLflow has it of the run; without MLflow the page has the verdicts alone."""
    ledger.append(GatesChecked(verdicts=[verdict.as_dict() for verdict in VERDICTS]), "churn", RUN)
    here = SimpleNamespace(ledger=ledger, registry=SimpleNamespace(is_new=False))
    found = Explanation("SHAP", "SHAP values of 1 row", 1, {"spend": 0.5}, 0.1, {"spend": [[0.5, 1.0]]}).as_dict()
    monkeypatch.setattr(card_records, "shap_of_run", lambda registry, model, run: found)
    page = gates_page(here, RUN)
    assert 'id="moves"><svg' in page and "churn: what moves its predictions" in page and page.count("<circle") == 1

    def away(registry, model, run):
        raise RegistryError("mlflow", "is away", "start it")

    monkeypatch.setattr(card_records, "shap_of_run", away)
    assert 'id="moves"' not in gates_page(here, RUN) and "roc_auc 0.5123" in gates_page(here, RUN)


def test_the_reliability_curve_is_a_picture():
    """A point for each bin of the calibration's table, where what was said and what came true put it, for light and dark pages."""
    curve = Table(calibration.COLUMNS, ((0.0, 0.2, 300, 0.1, 0.1), (0.2, 1.0, 100, 0.5, 0.9)))
    verdict = Verdict("calibration", True, 0.1, 0.2, "expected calibration error 0.1; Brier score 0.2", table=curve)
    drawn = report.pictures([*VERDICTS, verdict])
    assert list(drawn) == ["calibration"]
    root = xml.dom.minidom.parseString(drawn["calibration"]).documentElement
    points = [(float(c.getAttribute("cx")), float(c.getAttribute("cy"))) for c in root.getElementsByTagName("circle")]
    (left, low), (right, high) = points
    assert right - left == pytest.approx(0.4 * 360) and low - high == pytest.approx(0.8 * 360)
    assert "prefers-color-scheme:dark" in drawn["calibration"] and drawn["calibration"] in report.html(
        "m", RUN, [verdict]
    )
    linked = report.markdown("m", RUN, [verdict], ["explanation/reliability.svg"])
    assert "Pictures: [explanation/reliability.svg](explanation/reliability.svg)" in linked
