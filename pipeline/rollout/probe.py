"""Requests to a slot, or through the route, that come before any user's."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Mapping
from pathlib import Path

import httpx

from pipeline.errors import RolloutError
from pipeline.rollout.engines.base import Engine, Running
from pipeline.rollout.routing.traefik import READY, STAMP
from pipeline.serving.log_files import GOLDEN_ID

# For packages that do not say how far an answer may differ.
TOLERANCE_BEFORE = 1e-5


def answering_version(address: str, timeout_s: float = 2.0) -> str | None:
    """The version that answers at `address`; None when nothing answers."""
    try:
        answer = httpx.get(f"{address}{READY}", timeout=timeout_s, verify=is_https(address))
    except httpx.HTTPError:
        return None
    return answer.headers.get("x-model-version") if answer.status_code == 200 else None


def through_router(address: str, timeout_s: float = 2.0) -> tuple[int, str | None, str | None]:
    """(status code, version, stamp of the route file) of the model's answer at its address; code 0 when the router does not answer."""
    try:
        answer = httpx.get(f"{address}{READY}", timeout=timeout_s, verify=is_https(address))
    except httpx.HTTPError:
        return 0, None, None
    return answer.status_code, answer.headers.get("x-model-version"), answer.headers.get(STAMP)


def is_https(url: str) -> bool:
    """Whether to load the trusted certificates, which takes 30 ms of CPU at each request; plain HTTP needs none."""
    return url.startswith("https:")


def wait_for_stamp(address: str, stamp: str, limit_s: float) -> bool:
    """Whether, within `limit_s`, an answer at `address` came through the route file that carries `stamp`."""
    start = time.monotonic()
    with httpx.Client(timeout=2.0, verify=is_https(address)) as client:
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
    """Seconds until the slot answered. Raises RolloutError with the last lines that it printed when it did not."""
    start = time.monotonic()
    while time.monotonic() - start < limit_s:
        if answering_version(running.address) == running.version:
            return time.monotonic() - start
        if engine.find(running.model, running.slot) is None:
            break
        time.sleep(0.05)
    output = engine.output(running.model, running.slot) or "it printed nothing"
    raise RolloutError(
        f"slot {running.model} {running.slot}",
        f"version {running.version} was not ready within {limit_s:g} s: {output}",
        "did the server start? its output is above",
    )


def check_golden_requests(running: Running, package: Path, keys: Mapping[str, str]) -> int:
    """Sends the package's golden requests to the slot, with `keys` as headers; returns how many predictions were compared.

    Raises RolloutError when one differs from what evaluation recorded: a slot that is healthy but wrong gets no user's
    request.
    """
    recorded = json.loads((package / "golden.json").read_text(encoding="utf-8"))
    subject = f"slot {running.model} {running.slot}"
    try:
        headers = {"x-request-id": f"{GOLDEN_ID}{running.slot}-v{running.version}"}
        answer = httpx.post(
            f"{running.address}/invocations",
            json=recorded["request"],
            headers={**headers, **keys},
            timeout=10,
            verify=is_https(running.address),
        )
        answer.raise_for_status()
        answered = answer.json()["predictions"]
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        raise RolloutError(
            subject, f"failed its golden requests ({error})", "look at the package and at what the slot printed"
        ) from error
    expected = recorded["predictions"]
    scale, tolerance = recorded.get("scale"), recorded.get("tolerance", TOLERANCE_BEFORE)
    differences = [_difference(a, b, scale) for a, b in zip(answered, expected, strict=False)]
    # One that is no number is within no limit.
    wrong = [difference for difference in differences if not difference <= tolerance]
    if wrong or len(answered) != len(expected):
        largest = f", by up to {max(wrong):.1e} (gates.parity_tolerance was {tolerance:g})" if wrong else ""
        raise RolloutError(
            subject,
            f"{len(wrong) or abs(len(answered) - len(expected))} of {len(expected)} golden answers are wrong{largest}",
            "the slot does not predict what evaluation recorded; look at the package's runtime",
        )
    return len(expected)


def _difference(answered: object, expected: float | Mapping[str, float], scale: float | None) -> float:
    """As a share of the package's scale (pipeline.training.parity), the largest of all classes. An older package has no scale: relative for
    answers above 1."""
    if isinstance(expected, Mapping):
        if not isinstance(answered, Mapping) or answered.keys() != expected.keys():
            return math.inf
        return max(_difference(answered[name], expected[name], scale) for name in expected)
    if not isinstance(answered, int | float) or not math.isfinite(answered):
        return math.inf
    return abs(answered - expected) / (scale or max(1.0, abs(expected)))
