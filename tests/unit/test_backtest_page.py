"""The page of a backtest: each cell of the loss matrix, and what an older body of its event lacks."""

from __future__ import annotations

import re

from pipeline.ledger.decision_events import BacktestDrawn, Backtested
from pipeline.runs.backtest import page
from tests.support.decision_bodies import BACKTEST, DRAWN


def drawn(**changed) -> str:
    made = Backtested.read({**BACKTEST, "policies": [], "training_windows": [], **changed})
    return page.backtest_page("m", made, BacktestDrawn.read({**DRAWN, "window_starts": ["<b>", "2024-01-08"]}))


def test_each_loss_of_the_matrix_is_a_cell_with_its_words():
    """A version has cells from its own window on, the one that lost more is stronger, and a text of the ledger is no markup."""
    cells = re.findall(r'<rect x="([\d.]+)".*?fill-opacity="([\d.]+)"><title>(.*?)</title>', drawn(economics={}))
    assert [(x, said) for x, _, said in cells] == [
        ("0.00", "as of &lt;b&gt;, window of &lt;b&gt;: 0.5, 0 more than the best"),
        ("300.00", "as of &lt;b&gt;, window of 2024-01-08: 0.6, 0.2 more than the best"),
        ("300.00", "as of 2024-01-08, window of 2024-01-08: 0.4, 0 more than the best"),
    ]
    assert float(cells[1][1]) > float(cells[0][1]) == float(cells[2][1])


def test_a_body_without_economics_or_a_recommendation_has_its_page():
    """What an older event does not say is left out."""
    shown = drawn(economics={}, recommendation="")
    assert "<h2>Economics</h2>" not in shown and "Each version on each window" in shown
