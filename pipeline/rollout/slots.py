"""Fills a slot: starts a version in it and proves it, before any user's request reaches it."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from pipeline.ledger.rollout_events import SlotReady
from pipeline.registry.packages import package_digest
from pipeline.rollout import probe
from pipeline.rollout.context import RolloutContext
from pipeline.rollout.engines.base import Engine, Running, SlotSpec
from pipeline.rollout.prediction_folders import predictions_folder
from pipeline.rollout.recorded import as_recorded
from pipeline.rollout.routing.route import RoutedSlot
from pipeline.serving.intake import GOLDEN_HEADER
from pipeline.serving.settings import Settings
from pipeline.settings.rollout import Rollout, Serving
from pipeline.training import signing


@dataclass(frozen=True)
class ProvenSlot:
    """A slot that answered its golden requests, and the seconds until it was ready. A request with `golden_headers` is no traffic."""

    routed: RoutedSlot
    engine: Engine
    engine_reason: str
    ready_s: float
    golden_headers: Mapping[str, str] = field(default_factory=dict, repr=False)


def fill(
    context: RolloutContext,
    model: str,
    version: str,
    slot: str,
    folder: Path,
    settings: Rollout,
    *,
    shadow: bool = False,
) -> ProvenSlot:
    """Starts `version` in the slot and sends it the golden requests. Empties the slot when that fails.

    Raises RolloutError, or StageError when the package is not what its manifest says.
    """
    context.check_start(model)
    settings = context.settings_of_version(model, version, settings)
    manifest = signing.verified_manifest(folder)
    engine, why = context.engines.choose(settings.engine)
    context.empty_slot(model, slot, settings.drain_s)
    log = predictions_folder(context.home, model, shadow)
    digest = package_digest(folder)
    server, keys = _server_settings(context, model, version, digest, settings.serving)
    spec = SlotSpec(
        model,
        slot,
        version,
        folder,
        log,
        settings.drain_s,
        manifest.get("code_revision", ""),
        server.as_json(),
        settings.serving.cpus,
        settings.serving.memory_mb,
        manifest.get("runtime", "onnx"),
    )
    try:
        running = context.start_slot(engine, spec, why)
        ready_s = probe.wait_ready(engine, running, settings.ready_timeout_s)
        count = probe.check_golden_requests(running, folder, keys)
    except BaseException:
        # `empty_slot` refuses when this rollout was overtaken: the slot may hold the younger rollout's version by now.
        context.empty_slot(model, slot, 0)
        raise
    ready = SlotReady(
        version=version,
        slot=slot,
        address=running.address,
        golden=count,
        ready_s=round(ready_s, 3),
        settings=as_recorded(settings),
    )
    context.record(ready, model)
    routed = replace(routed_slot(running), digest=digest)
    return ProvenSlot(routed, engine, why, ready_s, keys)


def _server_settings(
    context: RolloutContext, model: str, version: str, digest: str, serving: Serving
) -> tuple[Settings, dict[str, str]]:
    """(the settings of the slot's server: its limits, its keys, its package's signature; the headers of the golden requests).

    The key of the golden requests is drawn here; only a replay uses it again. params.yaml holds only digests of the users' API keys,
    so the slot accepts it as one more of these.
    """
    key = secrets.token_hex(32)
    golden = hashlib.sha256(key.encode()).hexdigest()
    digests = (golden,) if serving.api_keys else ()
    headers = {GOLDEN_HEADER.decode(): key, "x-api-key": key}
    settings = Settings(
        max_body_bytes=int(serving.max_body_mb * 2**20),
        max_rows=serving.max_rows,
        request_s=serving.request_s,
        memory_mb=serving.memory_mb,
        processes=max(1, round(serving.cpus)),
        batching=serving.batching,
        on_breach=serving.on_breach,
        api_keys=(*serving.api_keys, *digests),
        personal=serving.personal,
        log_key=context.registry.key.log_key() if serving.personal else "",
        public_key=context.registry.key.public(),
        signature=context.registry.signature(model, version, digest),
        golden_key=golden,
    )
    return settings, headers


def routed_slot(running: Running) -> RoutedSlot:
    """The running slot as a route names it."""
    return RoutedSlot(running.slot, running.version, running.address)
