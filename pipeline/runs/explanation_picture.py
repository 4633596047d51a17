"""The picture of what moves a version's predictions, as SVG: a line for each column, a point for each row."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from pipeline.html.picture import WIDTH, framed
from pipeline.training.explanation import SHAP, Explanation

COLUMNS = 15
NAMES, FIGURES, LINE, TOP = 220.0, 90.0, 30.0, 64.0
# Letters of a name that fit before the points.
LETTERS = 30
HALF = 10.0
BINS = 80
LOW, HIGH, NO_ORDER = (61, 126, 166), (214, 97, 62), "#8a94a0"


def picture(explanation: Explanation, title: str) -> str:
    """The SVG, which reads in a light and in a dark page. The same explanation gives the same bytes."""
    shown = list(explanation.importance.items())[:COLUMNS]
    height = TOP + LINE * len(shown) + 34
    drawn = _points if explanation.how == SHAP else _bars
    left = len(explanation.importance) - len(shown)
    note = f"{left} more with less" if left > 0 else ""
    last = f'<text x="0" y="{height - 6:g}" class="quiet">{note}</text>'
    return framed(title, explanation.why, [*drawn(explanation, shown), last], height)


def _name(column: str, size: float, y: float) -> str:
    said = column if len(column) <= LETTERS else column[: LETTERS - 1] + "…"
    full = f"<title>{escape(column)}</title>"
    return (
        f'<text x="0" y="{y + 4:.1f}">{full}{escape(said)}</text>'
        f'<text x="{WIDTH:g}" y="{y + 4:.1f}" text-anchor="end" class="quiet">{size:.3g}</text>'
    )


def _points(explanation: Explanation, shown: Sequence[tuple[str, float]]) -> list[str]:
    """A point for each row: right of the line where the column raised the prediction, and blue for small and red for large values."""
    begin, end = NAMES, WIDTH - FIGURES
    effects = [point[0] or 0.0 for column, _ in shown for point in explanation.points.get(column, ())]
    most = max((abs(effect) for effect in effects), default=0.0) or 1.0
    middle, scale = (begin + end) / 2, (end - begin) / 2 / most
    bottom = TOP + LINE * len(shown)
    legend = (
        "value of the column: <tspan fill='rgb(%d,%d,%d)'>small</tspan> to <tspan fill='rgb(%d,%d,%d)'>large</tspan>"
    )
    parts = [
        f'<text x="{WIDTH:g}" y="56" text-anchor="end" class="quiet">mean size</text>',
        f'<text x="{middle:g}" y="56" text-anchor="middle" class="quiet">{legend % (*LOW, *HIGH)}</text>',
        f'<line x1="{middle:g}" x2="{middle:g}" y1="{TOP:g}" y2="{bottom:g}"/>',
        f'<text x="{begin:g}" y="{bottom + 16:g}" class="quiet">{-most:.3g}</text>',
        f'<text x="{middle:g}" y="{bottom + 16:g}" text-anchor="middle" class="quiet">effect on the prediction</text>',
        f'<text x="{end:g}" y="{bottom + 16:g}" text-anchor="end" class="quiet">+{most:.3g}</text>',
    ]
    for number, (column, size) in enumerate(shown):
        y = TOP + LINE * (number + 0.5)
        parts.append(_name(column, size, y))
        in_bin: dict[int, int] = {}
        for effect, place in explanation.points.get(column, ()):
            x = middle + (effect or 0.0) * scale
            # Points of one place are spread to both sides, as far as the line is high.
            step = in_bin.setdefault(int((x - begin) / (end - begin) * BINS), 0)
            in_bin[int((x - begin) / (end - begin) * BINS)] += 1
            moved = (step + 1) // 2 * 2.2 * (1 if step % 2 else -1)
            parts.append(
                f'<circle cx="{x:.1f}" cy="{y + max(-HALF, min(HALF, moved)):.1f}" r="2.4" fill="{_colour(place)}" fill-opacity=".8"/>'
            )
    return parts


def _colour(place: float | None) -> str:
    if place is None:
        return NO_ORDER
    mixed = (round(low + (high - low) * place) for low, high in zip(LOW, HIGH, strict=True))
    return f"rgb({','.join(map(str, mixed))})"


def _bars(explanation: Explanation, shown: Sequence[tuple[str, float]]) -> list[str]:
    most = max((size for _, size in shown), default=0.0) or 1.0
    parts = []
    for number, (column, size) in enumerate(shown):
        y = TOP + LINE * (number + 0.5)
        parts.append(_name(column, size, y))
        width = max(0.0, size) / most * (WIDTH - FIGURES - NAMES)
        parts.append(f'<rect x="{NAMES:g}" y="{y - 7:.1f}" width="{width:.1f}" height="14" fill="rgb{LOW}"/>')
    return parts
