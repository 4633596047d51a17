"""The page of a model's stop button: whether it is frozen, by whom and until when, and the spans of its calendar."""

from __future__ import annotations

from pathlib import Path

from pipeline.context import Context
from pipeline.html.templates import rendered
from pipeline.pages.kept_settings import with_kept_settings
from pipeline.pages.model_history import must_be_known
from pipeline.runs.freeze import frozen


def freeze_page(context: Context, model: str, may_act: bool) -> str:
    """The page as HTML; with `may_act` it has the button. Raises SettingsError for an unknown model."""
    context = with_kept_settings(context)
    must_be_known(context, model)
    block = context.params.models.get(model)
    now = context.clock()
    spans = [span for span in block.policy.frozen if span.end > now] if block is not None else []
    facts = {"model": model, "may_act": may_act, "frozen": frozen(context, model), "spans": spans}
    return rendered(Path(__file__).with_suffix(".html"), facts)
