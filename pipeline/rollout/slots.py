"""Filling a slot: start a version in it and prove it, before any user's request reaches it."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from pathlib import Path

from pipeline.ledger.rollout_events import SlotReady
from pipeline.rollout import probe
from pipeline.rollout.context import RolloutContext
from pipeline.rollout.engines.base import Engine, Running, Wanted
from pipeline.rollout.routing.route import Share
from pipeline.serving.settings import Settings
from pipeline.settings.models import Rollout, Serving
from pipeline.training import signing


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
    context: RolloutContext,
    model: str,
    version: str,
    slot: str,
    folder: Path,
    settings: Rollout,
    *,
    shadow: bool = False,
) -> Proven:
    """Starts `version` in the slot and asks it what evaluation asked. Empties the slot on failure.

    Raises RolloutError (or StageError for a package that is not what was packaged).
    """
    manifest = signing.verified_manifest(folder)
    engine, why = context.engines.choose(settings.engine)
    context.empty(model, slot, settings.drain_s)
    log = predictions_folder(context.home, model, shadow)
    told, probe_key = _told(context, model, version, settings.serving)
    wanted = Wanted(
        model,
        slot,
        version,
        folder,
        log,
        settings.drain_s,
        manifest.get("code_revision", ""),
        told.as_json(),
        settings.serving.cpus,
        settings.serving.memory_mb,
        manifest.get("runtime", "onnx"),
    )
    try:
        running = context.start(engine, wanted, why)
        ready_s = probe.wait_ready(engine, running, settings.ready_timeout_s)
        count = probe.golden(running, folder, settings.golden_tolerance, probe_key)
    except BaseException:
        # Not when this rollout was overtaken: what runs in the slot now may be the younger one's.
        context.empty(model, slot, 0)
        raise
    ready = SlotReady(version=version, slot=slot, address=running.address, golden=count, ready_s=round(ready_s, 3))
    context.record(ready, model)
    return Proven(share_of(running), engine, why, ready_s)


def _told(context: RolloutContext, model: str, version: str, serving: Serving) -> tuple[Settings, str]:
    """(what the slot's server is told: its limits, and whose signature its package must carry; a key to ask it with).

    The digests in params.yaml open nothing: the slot takes one key more, which nobody else ever sees.
    """
    probe_key = secrets.token_hex(32) if serving.api_keys else ""
    digests = (hashlib.sha256(probe_key.encode()).hexdigest(),) if probe_key else ()
    settings = Settings(
        max_body_bytes=int(serving.max_body_mb * 2**20),
        max_rows=serving.max_rows,
        request_s=serving.request_s,
        processes=max(1, round(serving.cpus)),
        batching=serving.batching,
        api_keys=(*serving.api_keys, *digests),
        personal=serving.personal,
        log_key=context.registry.key.log_key() if serving.personal else "",
        public_key=context.registry.key.public(),
        signature=context.registry.signature(model, version),
    )
    return settings, probe_key


def share_of(running: Running) -> Share:
    return Share(running.slot, running.version, running.address)
