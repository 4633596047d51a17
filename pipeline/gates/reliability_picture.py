"""The reliability curve of the gate `calibration` as SVG: what was said, beside what came true, for each bin of its table.

On the diagonal what was said came true as often. The grey bars are where 95 % of such bins would be by chance, were each probability
right: a bin outside of its own is off.

Source: Bröcker & Smith 2007 (the grey bars).
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.gates.base import Table
from pipeline.html.picture import framed

TITLE = "Reliability: how often it came true, beside the probability that was said"
TOLD = "Grey: where 95 % of such bins would be by chance, were each probability right. Below: the rows of each bin."
LEFT, TOP, SIDE, BAR = 220.0, 60.0, 360.0, 40.0
HEIGHT = TOP + SIDE + BAR + 62
LINE, BAND = "rgb(61,126,166)", "rgb(138,148,160)"
TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)
# Standard errors to each side of 95 %.
WIDE = 1.96


def picture(table: Table) -> str:
    """The SVG of the gate's table. The same table gives the same bytes."""
    bins = [
        (float(rows), float(said), float(came))
        for _, _, rows, said, came in table.rows
        if isinstance(rows, int | float) and isinstance(said, int | float) and isinstance(came, int | float)
    ]
    return framed(TITLE, TOLD, [*_axes(), *_band(bins), *_curve(bins), *_rows(bins)], HEIGHT)


def _x(value: float) -> float:
    return LEFT + SIDE * min(1.0, max(0.0, value))


def _y(value: float) -> float:
    return TOP + SIDE * (1 - min(1.0, max(0.0, value)))


def _axes() -> list[str]:
    bottom = TOP + SIDE
    parts = [
        f'<rect class="axis" x="{LEFT:g}" y="{TOP:g}" width="{SIDE:g}" height="{SIDE:g}"/>',
        f'<line x1="{LEFT:g}" y1="{bottom:g}" x2="{LEFT + SIDE:g}" y2="{TOP:g}" stroke-dasharray="4 4"/>',
        f'<text x="{LEFT - 44:g}" y="{TOP + SIDE / 2:g}" text-anchor="end" class="quiet">came true</text>',
        f'<text x="{LEFT + SIDE / 2:g}" y="{HEIGHT - 6:g}" text-anchor="middle" class="quiet">said, and the rows of each bin</text>',
    ]
    for at in TICKS:
        parts.append(f'<text x="{LEFT - 8:g}" y="{_y(at) + 4:g}" text-anchor="end" class="quiet">{at:g}</text>')
        parts.append(f'<text x="{_x(at):g}" y="{bottom + 16:g}" text-anchor="middle" class="quiet">{at:g}</text>')
    return parts


def _band(bins: Sequence[tuple[float, float, float]]) -> list[str]:
    """Around the diagonal, a bar for each bin."""
    parts = []
    for rows, said, _ in bins:
        off = WIDE * (max(0.0, said * (1 - said)) / max(rows, 1)) ** 0.5
        parts.append(
            f'<line x1="{_x(said):.1f}" x2="{_x(said):.1f}" y1="{_y(said - off):.1f}" y2="{_y(said + off):.1f}" '
            f'style="stroke:{BAND};stroke-width:9;stroke-opacity:.45"/>'
        )
    return parts


def _curve(bins: Sequence[tuple[float, float, float]]) -> list[str]:
    path = " ".join(f"{_x(said):.1f},{_y(came):.1f}" for _, said, came in bins)
    parts = [f'<polyline points="{path}" fill="none" stroke="{LINE}" stroke-width="2"/>'] if len(bins) > 1 else []
    for rows, said, came in bins:
        words = f"said {said:.3f}, came true {came:.3f}, {rows:,.0f} rows"
        parts.append(
            f'<circle cx="{_x(said):.1f}" cy="{_y(came):.1f}" r="4" fill="{LINE}"><title>{words}</title></circle>'
        )
    return parts


def _rows(bins: Sequence[tuple[float, float, float]]) -> list[str]:
    most, base = max((rows for rows, _, _ in bins), default=0.0) or 1.0, TOP + SIDE + 24 + BAR
    return [
        f'<rect x="{_x(said) - 4:.1f}" y="{base - BAR * rows / most:.1f}" width="8" height="{BAR * rows / most:.1f}" fill="{BAND}"/>'
        for rows, said, _ in bins
    ]
