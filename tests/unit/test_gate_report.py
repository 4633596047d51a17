"""What the gates said of a run, on a page that is read in a minute."""

from dataclasses import replace
from types import SimpleNamespace

from pipeline.gates import report
from pipeline.gates.base import Table, Verdict
from pipeline.ledger.events import GatesChecked
from pipeline.pages.gates import gates_page

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


def test_the_page_of_a_run_is_from_the_ledger(ledger):
    """Of the last check of the run, also one of before verdicts had modes; a run without a check has none."""
    old = {"gate": "schema", "passed": True, "observed": 0, "limit": 0, "reason": "the same columns"}
    ledger.append(GatesChecked(verdicts=[replace(VERDICTS[0], reason="of a check before").as_dict()]), "churn", RUN)
    ledger.append(GatesChecked(verdicts=[old, *(verdict.as_dict() for verdict in VERDICTS)]), "churn", RUN)
    here = SimpleNamespace(ledger=ledger)
    page = gates_page(here, RUN)
    assert "Gates of churn" in page and "the same columns" in page and "of a check before" not in page
    assert gates_page(here, "another") is None
