"""Filling a slot: start a version in it and prove it, before any user's request reaches it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline import signing
from pipeline.params import Rollout
from pipeline.rollout import probe
from pipeline.rollout.engine import Engine, Running, Wanted, engine_named
from pipeline.rollout.route import Share
from pipeline.rollout.site import Site


@dataclass(frozen=True)
class Proven:
    """A slot that answered its golden requests."""

    share: Share
    engine: Engine
    engine_reason: str
    ready_s: float


def predictions_folder(home: Path, model: str, shadow: bool = False) -> Path:
    """Where slots log; a shadow's answers are no traffic and lie apart."""
    folder = home / "predictions" / model
    return folder / "shadow" if shadow else folder


def fill(
    site: Site, model: str, version: str, slot: str, folder: Path, settings: Rollout, *, shadow: bool = False
) -> Proven:
    """Starts `version` in the slot and asks it what evaluation asked. Empties the slot on failure.

    Raises RolloutError (or StageError for a package that is not what was packaged).
    """
    manifest = signing.verified_manifest(folder)
    engine, why = engine_named(settings.engine, site.home, site.project)
    site.empty(model, slot, settings.drain_s)
    log = predictions_folder(site.home, model, shadow)
    wanted = Wanted(model, slot, version, folder, log, settings.drain_s, manifest.get("code_revision", ""))
    try:
        running = site.start(engine, wanted, why)
        ready_s = probe.wait_ready(engine, running, settings.ready_timeout_s)
        count = probe.golden(running, folder, settings.golden_tolerance)
    except BaseException:
        # Not when this rollout was overtaken: what runs in the slot now may be the younger one's.
        site.empty(model, slot, 0)
        raise
    site.note(
        "slot_ready",
        model,
        version=version,
        slot=slot,
        address=running.address,
        golden=count,
        ready_s=round(ready_s, 3),
    )
    return Proven(share_of(running), engine, why, ready_s)


def share_of(running: Running) -> Share:
    return Share(running.slot, running.version, running.address)
