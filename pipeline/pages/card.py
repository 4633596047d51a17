"""The page of a version's model card."""

from __future__ import annotations

from pipeline.context import Context
from pipeline.runs.model_card.card import card, html


def card_page(context: Context, model: str, version: str) -> str:
    """The page as HTML. Raises RegistryError for a version that is not there."""
    return html(card(context, model, version), "../../")
