"""Asks the deployer, with a token of a minute for each question.

A call that takes longer than a request should is asked for again until it has ended. A deployer that was restarted
meanwhile has forgotten the call; what may be asked twice is asked again, of the rest is said how it stands.
"""

from __future__ import annotations

import io
import time
import uuid
from datetime import datetime
from typing import TYPE_CHECKING, Any

import httpx

from pipeline import errors
from pipeline.deployer import tokens
from pipeline.rollout.probe import certified
from pipeline.rollout.results import Deployment, Rollback, ShadowResult, deploy_result

if TYPE_CHECKING:
    import pandas as pd

# How long a deployer may be away, to start again for one, before it is given up.
AWAY_S = 120.0
ASK_AGAIN_S = 1.0
WAIT_S = 20
# Asked again after a restart these come to the same; a rollback would go back once more.
TWICE = ("deploy", "reconcile", "retire", "status", "predictions")
ATTEMPTS = 3


class Deployer:
    """The verbs of pipeline.deployer.api.Traffic, carried out by the service at `url`. Each raises what it would
    raise here, and RolloutError when the service cannot be reached."""

    def __init__(self, url: str, key: str) -> None:
        self._url, self._key = url.rstrip("/"), key

    def deploy(
        self, run: str, model: str, version: str, reason: str, strategy: str | None, wait_s: float
    ) -> Deployment | ShadowResult:
        arguments = {"version": version, "reason": reason, "strategy": strategy, "wait_s": wait_s}
        return deploy_result(self._done("deploy", run, model, arguments))

    def rollback(self, run: str, model: str, reason: str) -> Rollback:
        return Rollback.from_dict(self._done("rollback", run, model, {"reason": reason}))

    def replace(self, run: str, model: str, reason: str, leaving: str, by: str) -> Rollback:
        arguments = {"reason": reason, "leaving": leaving, "by": by}
        return Rollback.from_dict(self._done("replace", run, model, arguments))

    def reconcile(self, run: str, models: list[str] | None) -> list[str]:
        if models is None:
            return self._done("reconcile", run, "", {})
        return [line for model in models for line in self._done("reconcile", run, model, {})]

    def retire(self, run: str, model: str) -> list[str]:
        return self._done("retire", run, model, {})

    def status(self, model: str) -> list[dict[str, Any]]:
        return self._done("status", "", model, {})

    def predictions(self, model: str, start: datetime, end: datetime) -> tuple[pd.DataFrame, int]:
        import pandas as pd

        answer = self._ask(
            "POST",
            "predictions",
            "predictions",
            "",
            model,
            {"model": model, "start": start.isoformat(), "end": end.isoformat()},
        )
        if answer.status_code != 200:
            raise _raised(answer.json())
        return pd.read_parquet(io.BytesIO(answer.content)), int(answer.headers["x-logged"])

    def _done(self, verb: str, run: str, model: str, arguments: dict[str, Any]) -> Any:
        """What the verb returns, once it has ended."""
        for _ in range(ATTEMPTS):
            call = uuid.uuid4().hex
            begun = self._ask("POST", verb, verb, run, model, {"call": call, "model": model, **arguments})
            if begun.status_code != 202:
                raise _raised(begun.json())
            told = self._ended(call, run, model)
            if told is not None:
                if told["state"] == "failed":
                    raise _raised(told["error"])
                return told["answer"]
            if verb not in TWICE:
                break
        raise errors.RolloutError(
            f"{verb} of {model or 'all models'}",
            "the deployer was restarted in the middle of it, and mends what it left when it starts",
            "`python -m pipeline status` says what is live",
        )

    def _ended(self, call: str, run: str, model: str) -> dict[str, Any] | None:
        """How the call ended; None when the deployer knows nothing of it any more."""
        while True:
            answer = self._ask("GET", f"calls/{call}?wait_s={WAIT_S}&model={model}", "calls", run, model)
            if answer.status_code == 404:
                return None
            told = answer.json()
            if answer.status_code != 200:
                raise _raised(told)
            if told["state"] != "running":
                return told

    def _ask(
        self, method: str, path: str, verb: str, run: str, model: str, body: dict[str, Any] | None = None
    ) -> httpx.Response:
        """The service's answer, which is waited for while it is away for a moment. Raises RolloutError."""
        until = time.monotonic() + AWAY_S
        while True:
            # A token is good once: each question has its own.
            token = tokens.drawn(self._key, run, verb, model)
            try:
                return httpx.request(
                    method,
                    f"{self._url}/v1/{path}",
                    json=body,
                    headers={"authorization": f"Bearer {token}"},
                    timeout=httpx.Timeout(WAIT_S + 40.0, connect=5.0),
                    verify=certified(self._url),
                )
            except httpx.HTTPError as error:
                if time.monotonic() > until:
                    raise errors.RolloutError(
                        f"deployer {self._url}", f"does not answer ({error})", "is it up? what was live still is"
                    ) from error
            time.sleep(ASK_AGAIN_S)


def _raised(told: dict[str, Any]) -> errors.PerennialError:
    """The error that the service was refused with, as it would have been raised here."""
    kind = getattr(errors, str(told.get("kind")), errors.RolloutError)
    known = isinstance(kind, type) and issubclass(kind, errors.PerennialError) and kind is not errors.PerennialError
    lines = (str(told.get(part, "")) for part in ("subject", "observation", "next_check"))
    return (kind if known else errors.RolloutError)(*lines)
