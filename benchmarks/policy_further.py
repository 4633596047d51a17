"""The default retrain policy on streams that it was not made for, told in three parts: looked at while it is changed, held back, and fresh.

A linear model, one seed, seven costs of a retrain; otherwise as `python -m benchmarks policy`. The table has what is asked on any stream beside
what is measured. It breaks no limit, for not all of it holds (docs/when-to-retrain.md).
"""

from __future__ import annotations

import numpy as np

from benchmarks.policy import DEFAULT, ORACLE, TUNED, Found, by_stream, in_cell, mean_ratio, way
from benchmarks.policy_fresh_streams import STREAMS as FRESH_STREAMS
from benchmarks.policy_further_streams import HELD_BACK, LOOKED_AT, part_of
from benchmarks.policy_further_streams import STREAMS as FURTHER_STREAMS
from benchmarks.policy_matrices import Cell, history_of, make_missing
from benchmarks.policy_streams import Absent

FRESH = "fresh"
STREAMS = FURTHER_STREAMS | FRESH_STREAMS
CELLS = [Cell(1, False, stream, "linear") for stream in STREAMS]


def main() -> None:
    make_missing(CELLS, streams=STREAMS)
    found = []
    for cell in CELLS:
        try:
            found += in_cell(cell, history_of(cell))
        except Absent as why:
            print(why)
    parts = {part: [one for one in found if _part(one.cell.stream) == part] for part in (LOOKED_AT, HELD_BACK, FRESH)}
    for part, here in parts.items():
        if here:
            print(f"\n{part}: {', '.join(sorted({one.cell.stream for one in here}))}")
            by_stream(here)
    print(
        f"\n| streams | cells | {DEFAULT} / oracle | / tuned schedule | way | at most 5 % above it | worst cell | retrains |"
    )
    print("|---|---|---|---|---|---|---|---|")
    print("| asked | – | 1.06 | 0.97 | 0.45 | 95 % | 1.15 | – |")
    for part, here in (*parts.items(), ("all", found)):
        if here:
            print(f"| {part} | {len(here)} | {_figures(here)} |")


def _part(stream: str) -> str:
    return FRESH if stream in FRESH_STREAMS else part_of(stream)


def _figures(found: list[Found]) -> str:
    over = np.array([one.against(DEFAULT, TUNED) for one in found])
    retrains = np.mean([len(one.outcomes[DEFAULT].retrained) for one in found])
    return (
        f"{mean_ratio(found, DEFAULT, ORACLE):.3f} | {over.mean():.3f} | {way(found):.2f} | {100 * (over <= 1.05).mean():.0f} % | "
        f"{over.max():.2f} | {retrains:.1f}"
    )


if __name__ == "__main__":
    main()
