"""Which version of which model is live where: the route says it, the slot confirms it, the ledger dates it."""

from __future__ import annotations

from typing import Any

from pipeline.ledger.timeline import live_at
from pipeline.rollout import probe, route
from pipeline.runs import Setup


def models_status(setup: Setup, model: str = "") -> list[dict[str, Any]]:
    """One entry a model: {"model", "live": {"version", "slot", "since", "answers", …} | None, "previous", "address"}."""
    names = [model] if model else list(setup.params.models)
    return [_model_status(setup, name) for name in names]


def _model_status(setup: Setup, name: str) -> dict[str, Any]:
    current = route.read(setup.home, name)
    told: dict[str, Any] = {
        "model": name,
        "description": setup.params.model(name).description,
        "address": f"{route.router_url(setup.home)}/{name}/invocations",
        "live": None,
        "previous": None,
    }
    if current is None:
        return told
    last = live_at(setup.ledger, name) or {}
    told["live"] = {
        "version": current.live.version,
        "slot": current.live.slot,
        "since": last.get("since"),
        "answers": probe.answering_version(current.live.address, timeout_s=1) == current.live.version,
        "ledger_agrees": last.get("version") == current.live.version,
    }
    if current.previous is not None:
        warm = probe.answering_version(current.previous.address, timeout_s=1) == current.previous.version
        told["previous"] = {"version": current.previous.version, "slot": current.previous.slot, "warm": warm}
    return told
