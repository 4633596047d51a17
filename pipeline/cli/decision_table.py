"""A decision's receipt as text for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipeline.cli import tables

if TYPE_CHECKING:
    from pipeline.ledger.receipt_events import RetrainDecided

# The newest windows are shown.
WINDOWS = 8


def receipt(model: str, made: RetrainDecided, settled: str = "", waited: str = "", over: str = "") -> str:
    """`settled` says how the receipts before it came true, `waited` the same of decisions to wait, `over` that another version is live since; ''
    where there is none."""
    lines = [f"{model} {made.champion}: {made.sentence()}", *filter(None, [over])]
    if made.money:
        lines.append(made.money)
    if made.cost is not None:
        lines.append(f"a retrain costs {made.cost:,.2f} {made.currency}: {_parts(made.economics)}")
    if guesses := made.economics.get("guesses"):
        lines.append(f"guesses, until you state them: {', '.join(f'models.{model}.{key}' for key in guesses)}")
    if made.flips:
        lines.append(f"it would be otherwise with {made.flips}")
    if made.others:
        said = ", ".join(f"{rule} {what}" for rule, what in made.others.items())
        lines.append(f"other rules: {said}")
    if settled:
        lines.append(f"receipts so far: {settled}")
    if waited:
        lines.append(waited)
    return tables.text("\n".join(lines), *([_losses(made)] if made.losses else []))


def _parts(economics: Mapping[str, Any]) -> str:
    """What the cost is made of, and how each part is known."""
    return ", ".join(
        f"{part} {economics[part]['value']:,.2f} ({economics[part]['known']})" for part in ("machine", "people", "risk")
    )


def _losses(made: RetrainDecided) -> Any:
    versions = sorted(made.ages, key=lambda version: -made.ages[version])
    shown = tables.table("window from", ">rows", *(f">version {version}" for version in versions))
    for window in made.losses[-WINDOWS:]:
        of = window["by_version"]
        cells = (f"{of[version]:.4f}" if version in of else "-" for version in versions)
        shown.add_row(window["start"][:10], f"{window['rows']:,}", *cells)
    return shown
