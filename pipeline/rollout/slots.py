"""Fills a slot: starts a version in it and proves it, before any user's request reaches it."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from pipeline.errors import PerennialError
from pipeline.ledger.rollout_events import SlotReady
from pipeline.registry.packages import package_digest
from pipeline.rollout import approved_image, probe
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
    goes_on: bool = False,
) -> ProvenSlot:
    """Starts `version` in the slot and sends it the golden requests. Empties the slot when that fails.

    A version that people approve starts from the image that was approved with it. What is live `goes_on`, by the image of today where that
    one is gone or does not start. Raises RolloutError, or StageError when the package is not what its manifest says.
    """
    context.check_start(model)
    settings = context.settings_of_version(model, version, settings)
    manifest = signing.verified_manifest(folder)
    engine, why = context.engines.choose(settings.engine)
    digest, runtime = package_digest(folder), manifest.get("runtime", "onnx")
    start = approved_image.to_start(context, engine, model, version, digest, runtime, goes_on=goes_on)
    context.empty_slot(model, slot, settings.drain_s)
    server, keys = _server_settings(context, model, version, digest, settings.serving)
    log_folder, code = predictions_folder(context.home, model, shadow), manifest.get("code_revision", "")
    limits = (settings.serving.cpus, settings.serving.memory_mb)
    spec = SlotSpec(
        model,
        slot,
        version,
        folder,
        log_folder,
        settings.drain_s,
        code,
        server.as_json(),
        *limits,
        runtime,
        start.image,
    )
    try:
        proven = _start(context, engine, why, spec, settings, digest, keys)
    except PerennialError as error:
        if not (goes_on and start.image):
            raise
        context.check_lease()
        start = replace(start, other=f"version {version} did not start by that one ({error})")
        proven = _start(context, engine, why, replace(spec, image=""), settings, digest, keys)
    approved_image.note_other(context, model, version, slot, start)
    return proven


def check_image(context: RolloutContext, model: str, version: str, folder: Path, settings: Rollout) -> None:
    """Raises RolloutError when `fill` would find the image gone that was approved with the version."""
    runtime = signing.verified_manifest(folder).get("runtime", "onnx")
    engine, _ = context.engines.choose(settings.engine)
    approved_image.to_start(context, engine, model, version, package_digest(folder), runtime, goes_on=False)


def _start(
    context: RolloutContext,
    engine: Engine,
    why: str,
    spec: SlotSpec,
    settings: Rollout,
    digest: str,
    keys: Mapping[str, str],
) -> ProvenSlot:
    """Starts the spec and proves it on its golden requests, whose headers are `keys`. Empties the slot when that fails."""
    model, version, slot = spec.model, spec.version, spec.slot
    try:
        running = context.start_slot(engine, spec, why)
        ready_s = probe.wait_ready(engine, running, settings.ready_timeout_s)
        count = probe.check_golden_requests(running, spec.package, keys)
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
