"""Asks a slot, or the route, before any user does."""

from __future__ import annotations

import contextlib
import json
import math
import time
from pathlib import Path

import httpx

from pipeline.errors import RolloutError
from pipeline.rollout.engines.base import Engine, Running
from pipeline.rollout.routing.traefik import READY, STAMP
from pipeline.serving.log_files import GOLDEN_ID


def answering_version(address: str, timeout_s: float = 2.0) -> str | None:
    """The version that answers at `address`, or None when nothing does."""
    try:
        answer = httpx.get(f"{address}{READY}", timeout=timeout_s, verify=certified(address))
    except httpx.HTTPError:
        return None
    return answer.headers.get("x-model-version") if answer.status_code == 200 else None


def certified(url: str) -> bool:
    """Whether certificates are wanted. Loading all that one trusts takes 30 ms of CPU, at each question; HTTP has none."""
    return url.startswith("https:")


def wait_for_stamp(address: str, stamp: str, limit_s: float) -> bool:
    """Whether, within `limit_s`, an answer at `address` came through the route file that carries `stamp`."""
    start = time.monotonic()
    with httpx.Client(timeout=2.0, verify=certified(address)) as client:
        while time.monotonic() - start < limit_s:
            with contextlib.suppress(httpx.HTTPError):
                answer = client.get(f"{address}{READY}")
                if answer.status_code == 200 and answer.headers.get(STAMP) == stamp:
                    return True
            time.sleep(0.02)
    return False


def wait_for_version(address: str, version: str, limit_s: float) -> bool:
    """Whether `version` answered at `address` within `limit_s`."""
    start = time.monotonic()
    while time.monotonic() - start < limit_s:
        if answering_version(address) == version:
            return True
        time.sleep(0.02)
    return False


def wait_ready(engine: Engine, running: Running, limit_s: float) -> float:
    """Seconds until the slot answered. Raises RolloutError with its last words when it did not."""
    start = time.monotonic()
    while time.monotonic() - start < limit_s:
        if answering_version(running.address) == running.version:
            return time.monotonic() - start
        if engine.find(running.model, running.slot) is None:
            break
        time.sleep(0.05)
    said = engine.output(running.model, running.slot) or "it printed nothing"
    raise RolloutError(
        f"slot {running.model} {running.slot}",
        f"version {running.version} did not get ready in {limit_s:g} s: {said}",
        "did the server start? its output is above",
    )


def golden(running: Running, package: Path, tolerance: float, api_key: str = "") -> int:
    """Sends the package's golden requests to the slot; returns how many answers were right.

    Raises RolloutError when one is not what evaluation recorded, so that a slot which is healthy but
    answers nonsense gets no user's request.
    """
    told = json.loads((package / "golden.json").read_text(encoding="utf-8"))
    subject = f"slot {running.model} {running.slot}"
    try:
        who = {"x-request-id": f"{GOLDEN_ID}{running.slot}-v{running.version}"}
        who |= {"x-api-key": api_key} if api_key else {}
        answer = httpx.post(
            f"{running.address}/invocations",
            json=told["request"],
            headers=who,
            timeout=10,
            verify=certified(running.address),
        )
        answer.raise_for_status()
        got = answer.json()["predictions"]
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        raise RolloutError(
            subject, f"failed its golden requests ({error})", "look at the package and the slot's output"
        ) from error
    expected = told["predictions"]
    wrong = [row for row, (a, b) in enumerate(zip(got, expected, strict=False)) if not _same(a, b, tolerance)]
    if wrong or len(got) != len(expected):
        raise RolloutError(
            subject,
            f"{len(wrong) or abs(len(got) - len(expected))} of {len(expected)} golden answers are wrong",
            "the package does not answer as evaluation did",
        )
    return len(expected)


def _same(got: object, expected: float, tolerance: float) -> bool:
    if not isinstance(got, int | float) or not math.isfinite(got):
        return False
    return abs(got - expected) <= tolerance * max(1.0, abs(expected))
