"""The frame of our pictures: an SVG with its own ground, which reads in a light and in a dark page, and alone."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

MARGIN, WIDTH = 12.0, 860.0
# With its own ground: the page around it need not follow the reader's scheme.
STYLE = (
    ".explanation .ground{fill:#fff}.explanation text{font:13px system-ui,sans-serif;fill:#1f2328}.explanation .quiet{fill:#5b6773}"
    ".explanation line,.explanation .axis{stroke:#aab4be;fill:none}"
    "@media(prefers-color-scheme:dark){.explanation text{fill:#e6edf3}.explanation .quiet{fill:#9aa7b3}"
    ".explanation line,.explanation .axis{stroke:#4a545e}.explanation .ground{fill:#14181d}}"
)


def framed(title: str, told: str, parts: Sequence[str], height: float) -> str:
    """The SVG of `parts`, in units of 860 across, below a title and a quiet line."""
    return "".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" class="explanation" viewBox="{-MARGIN:g} 0 {WIDTH + 2 * MARGIN:g} {height:g}" role="img" '
            f'aria-label="{escape(title)}" style="width:100%;max-width:{WIDTH:g}px">',
            f'<style>{STYLE}</style><rect class="ground" x="{-MARGIN:g}" width="{WIDTH + 2 * MARGIN:g}" height="{height:g}"/>',
            f'<text x="0" y="16" font-weight="600">{escape(title)}</text>',
            f'<text x="0" y="36" class="quiet">{escape(told)}</text>',
            *parts,
            "</svg>\n",
        ]
    )
