"""Calls the deployer over HTTP; each request carries a token of its own, which is valid for a minute.

The client polls a call until it has ended. A deployer that was restarted meanwhile has forgotten the call: a verb that can
be repeated is sent again, for any other the error says how to find out what is live.
"""

from __future__ import annotations

import io
import logging
import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from pipeline import errors
from pipeline.deployer import tokens
from pipeline.deployer.model_status import ModelStatus
from pipeline.rollout.probe import is_https
from pipeline.rollout.results import Deployment, Rollback, ShadowResult, Undeployment, deploy_result

if TYPE_CHECKING:
    from pipeline.deployer.log_partitions import Taken, Uncounted
    from pipeline.gates.image_system import ServingSystem
    from pipeline.monitoring.answered_by import AnsweredBy
    from pipeline.monitoring.live_quality import LoggedPredictions
    from pipeline.monitoring.log_profiles import LoggedProfile
    from pipeline.monitoring.profiles.kept import Hour
    from pipeline.reliability.report import LevelReport
    from pipeline.rollout.approval import Evidence

# Seconds without an answer after which the deployer counts as unreachable; a restart takes less.
AWAY_S = 120.0
RETRY_S = 1.0
WAIT_S = 20
LOOK_S = 1.0
# Sent again after a restart these have the same result; a second rollback would go back once more.
REPEATABLE = (
    *("deploy", "reconcile", "retire", "status", "levels", "predictions", "profile", "evidence", "answered"),
    *("serving_system", "prune_log"),
)
ATTEMPTS = 3

logger = logging.getLogger(__name__)


class RemoteTraffic:
    """The verbs of pipeline.deployer.api.Traffic, carried out by the deployer at `url`. Each raises the same errors as
    LocalTraffic, and RolloutError when the deployer cannot be reached."""

    def __init__(self, url: str, key: str, asked_by: str = "") -> None:
        self._url, self._key = url.rstrip("/"), key
        self._who = {"asked_by": asked_by} if asked_by else {}

    def asked_by(self, person: str) -> RemoteTraffic:
        return RemoteTraffic(self._url, self._key, person)

    def deploy(
        self,
        run: str,
        model: str,
        version: str,
        reason: str,
        strategy: str | None,
        wait_s: float,
        accept_schema_change: bool = False,
    ) -> Deployment | ShadowResult:
        arguments: dict[str, Any] = {"version": version, "reason": reason, "strategy": strategy, "wait_s": wait_s}
        arguments |= self._who
        if accept_schema_change:
            arguments["accept_schema_change"] = True
        return deploy_result(self._result("deploy", run, model, arguments))

    def rollback(self, run: str, model: str, reason: str, only: str = "") -> Rollback:
        arguments = {"reason": reason} | ({"only": only} if only else {}) | self._who
        return Rollback.from_dict(self._result("rollback", run, model, arguments))

    def replace(self, run: str, model: str, reason: str, leaving: str, by: str) -> Rollback:
        arguments = {"reason": reason, "leaving": leaving, "by": by} | self._who
        return Rollback.from_dict(self._result("replace", run, model, arguments))

    def undeploy(self, run: str, model: str, reason: str) -> Undeployment:
        return Undeployment.from_dict(self._result("undeploy", run, model, {"reason": reason} | self._who))

    def reconcile(self, run: str, models: list[str] | None) -> list[str]:
        lines: list[str] = []
        failed: list[errors.PerennialError] = []
        for model in [""] if models is None else models:
            try:
                lines += self._result("reconcile", run, model, {})
            except errors.PerennialError as error:
                failed.append(error)
        if failed:
            for line in lines:
                logger.info("%s", line)
            raise failed[0]
        return lines

    def retire(self, run: str, model: str) -> list[str]:
        return self._result("retire", run, model, {})

    def prune_log(self, run: str, model: str, dry_run: bool) -> dict[str, list[int]]:
        return self._result("prune_log", run, model, {"dry_run": dry_run})

    def status(self, model: str) -> list[ModelStatus]:
        return [ModelStatus.from_dict(values) for values in self._result("status", "", model, {})]

    def evidence(self, model: str, version: str) -> Evidence:
        from pipeline.rollout.approval import Evidence

        return Evidence.read(self._result("evidence", "", model, {"version": version}))

    def serving_system(self, model: str, runtime: str) -> ServingSystem:
        from pipeline.gates.image_system import ServingSystem

        return ServingSystem.read(self._result("serving_system", "", model, {"runtime": runtime}))

    def answered(self, model: str, request: str) -> list[AnsweredBy]:
        from pipeline.monitoring.answered_by import AnsweredBy

        return [AnsweredBy(**values) for values in self._result("answered", "", model, {"request": request})]

    def levels(self, model: str, hours: float) -> list[LevelReport]:
        from pipeline.reliability.report import LevelReport

        return [LevelReport.from_dict(values) for values in self._result("levels", "", model, {"hours": hours})]

    def predictions(self, model: str, start: datetime, end: datetime, share: float = 1.0) -> LoggedPredictions:
        import pandas as pd

        from pipeline.monitoring.live_quality import LoggedPredictions
        from pipeline.monitoring.logged_quality import LoggedQuality

        arguments = {"start": start.isoformat(), "end": end.isoformat()} | ({"share": share} if share < 1 else {})
        answer = self._of_log("predictions", model, arguments)
        rows = pd.read_parquet(io.BytesIO(answer.content))
        # A deployer of an earlier version does not count damaged files, and says nothing of the log's data.
        told = answer.headers.get("x-logged-quality")
        quality = LoggedQuality.read_text(told) if told else None
        damaged = int(answer.headers.get("x-damaged-files", 0))
        return LoggedPredictions(rows, int(answer.headers["x-logged"]), damaged, quality)

    def profile(self, model: str, version: str, digest: str, start: datetime, end: datetime) -> LoggedProfile:
        from pipeline.monitoring.log_profiles import LoggedProfile

        arguments = {"version": version, "digest": digest, "start": start.isoformat(), "end": end.isoformat()}
        return LoggedProfile.read(self._of_log("profile", model, arguments).json())

    def uncounted(self, model: str) -> Uncounted:
        from pipeline.deployer.log_partitions import Uncounted

        return Uncounted.read(_told(self._request("GET", f"uncounted?model={model}", "uncounted", "", model)))

    def fetch_partitions(self, run: str, model: str, partitions: Sequence[str], folder: Path) -> None:
        from pipeline.deployer import partition_stream

        body = {"model": model, "partitions": [*partitions]}
        for attempt in range(ATTEMPTS):
            token = {"authorization": f"Bearer {tokens.issue(self._key, run, 'log_files', model)}"}
            url, limit = f"{self._url}/v1/log_files", httpx.Timeout(WAIT_S + 40.0, connect=5.0)
            try:
                with httpx.stream("POST", url, json=body, headers=token, timeout=limit, verify=is_https(url)) as answer:
                    if answer.status_code != 200:
                        answer.read()
                        raise _error(answer.json())
                    return partition_stream.write(answer.iter_bytes(), folder)
            except (httpx.HTTPError, partition_stream.CutOff) as error:
                if attempt == ATTEMPTS - 1:
                    observed = f"does not send the files of its prediction log ({error})"
                    raise errors.RolloutError(
                        f"deployer {self._url}", observed, "is the deployer up? the look counts them itself"
                    ) from error
            time.sleep(RETRY_S)

    def take_profiles(self, run: str, model: str, edges: str, found: Mapping[str, Sequence[Hour]]) -> Taken:
        from pipeline.deployer.log_partitions import Taken
        from pipeline.deployer.partition_stream import profiles_body

        body = profiles_body(edges, found)
        return Taken.read(
            _told(self._request("POST", f"take_profiles?model={model}", "take_profiles", run, model, content=body))
        )

    def newest_look(self, model: str) -> dict[str, Any] | None:
        # A page waits for it: it asks once, and shortly.
        token = {"authorization": f"Bearer {tokens.issue(self._key, '', 'newest_look', model)}"}
        url, limit = f"{self._url}/v1/newest-look?model={model}", httpx.Timeout(LOOK_S)
        try:
            answer = httpx.request("GET", url, headers=token, timeout=limit, verify=is_https(url))
            answer.raise_for_status()
        except httpx.HTTPError as error:
            observed = f"does not tell how the rollout does ({error})"
            raise errors.RolloutError(
                f"deployer {self._url}", observed, "is the deployer up, and of this version?"
            ) from error
        return answer.json()

    def _of_log(self, verb: str, model: str, arguments: dict[str, Any]) -> httpx.Response:
        """The answer of a verb that reads the log, which comes with the call itself."""
        answer = self._request("POST", verb, verb, "", model, {"model": model, **arguments})
        if answer.status_code != 200:
            raise _error(answer.json())
        return answer

    def _result(self, verb: str, run: str, model: str, arguments: dict[str, Any]) -> Any:
        """The answer of the verb, as JSON, once the call has ended."""
        for _ in range(ATTEMPTS):
            call = uuid.uuid4().hex
            started = self._request("POST", verb, verb, run, model, {"call": call, "model": model, **arguments})
            if started.status_code != 202:
                raise _error(started.json())
            state = self._ended(call, run, model)
            if state is not None:
                if state["state"] == "failed":
                    raise _error(state["error"])
                return state["answer"]
            if verb not in REPEATABLE:
                break
        raise errors.RolloutError(
            f"{verb} of {model or 'all models'}",
            "the deployer was restarted in the middle of it, and recovers what it left when it starts",
            "`perennial status` says what is live",
        )

    def _ended(self, call: str, run: str, model: str) -> dict[str, Any] | None:
        """The state of the call once it has ended; None when the deployer does not know the call any more."""
        while True:
            answer = self._request("GET", f"calls/{call}?wait_s={WAIT_S}&model={model}", "calls", run, model)
            if answer.status_code == 404:
                return None
            state = answer.json()
            if answer.status_code != 200:
                raise _error(state)
            if state["state"] != "running":
                return state

    def _request(
        self,
        method: str,
        path: str,
        verb: str,
        run: str,
        model: str,
        body: dict[str, Any] | None = None,
        content: bytes | None = None,
    ) -> httpx.Response:
        """The deployer's response; tries again for AWAY_S seconds while it does not answer. Raises RolloutError."""
        until = time.monotonic() + AWAY_S
        while True:
            # A token is valid once, so each try has its own.
            token = tokens.issue(self._key, run, verb, model)
            try:
                return httpx.request(
                    method,
                    f"{self._url}/v1/{path}",
                    json=body,
                    content=content,
                    headers={"authorization": f"Bearer {token}"},
                    timeout=httpx.Timeout(WAIT_S + 40.0, connect=5.0),
                    verify=is_https(self._url),
                )
            except httpx.HTTPError as error:
                if time.monotonic() > until:
                    raise errors.RolloutError(
                        f"deployer {self._url}",
                        f"does not answer ({error})",
                        "is the deployer up? what was live still is",
                    ) from error
            time.sleep(RETRY_S)


def _told(answer: httpx.Response) -> Any:
    """The answer as JSON. Raises the deployer's error, or RolloutError for one that does not know the verb."""
    try:
        told = answer.json()
    except ValueError as error:
        observed = f"answers {answer.status_code} and no JSON to {answer.request.url.path}"
        raise errors.RolloutError("deployer", observed, "is it of the same version as the workers?") from error
    if answer.status_code != 200:
        raise _error(told)
    return told


def _error(body: dict[str, Any]) -> errors.PerennialError:
    """The error of the deployer's answer, as the class that LocalTraffic would raise."""
    kind = getattr(errors, str(body.get("kind")), errors.RolloutError)
    known = isinstance(kind, type) and issubclass(kind, errors.PerennialError) and kind is not errors.PerennialError
    lines = (str(body.get(part, "")) for part in ("subject", "observation", "next_check"))
    return (kind if known else errors.RolloutError)(*lines)
