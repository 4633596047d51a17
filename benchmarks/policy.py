"""Retrain policies replayed on real streams, beside the cheapest that anybody could have done who had known it.

Each cell is a stream, a learner, a seed and a cost of a retrain. The first 30 % of its windows stand for the backtest: there schedules are
tuned and curves fitted. The rest is replayed, with labels that come late. Seven costs are spread evenly in their logarithm, from that at
which the oracle retrains before every other window to that at which it never does.
"""

from __future__ import annotations

TUNED_ON = 0.3
COSTS = 7
