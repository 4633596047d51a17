"""The deployer's HTTP service: the one container with the engine's socket. `python -m pipeline.deployer` serves it.

The verbs and their arguments are fixed. Each call carries a token (pipeline.deployer.tokens) and has its events in the
ledger, a refused call too. A call that takes long runs in a thread; the caller polls it by its number.
"""

from __future__ import annotations

import asyncio
import io
import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from pipeline.context import Context
from pipeline.deployer import log_partitions
from pipeline.deployer.api import Traffic
from pipeline.deployer.arguments import arguments_of
from pipeline.deployer.partition_stream import framed, profiles_of
from pipeline.deployer.tokens import Checker, TokenRefused
from pipeline.errors import PerennialError, SettingsError
from pipeline.ledger.events import DeployerAnswered, DeployerCalled, DeployerRefused, Event
from pipeline.rollout.results import Result
from pipeline.rollout.routing import route_file
from pipeline.settings import logs
from pipeline.settings.models import MODEL_NAME

MAX_BODY = 65_536
# Of profiles, which only the bearer of a token may send.
MAX_PROFILES = 64 * 2**20
REMEMBERED_CALLS = 200
LONGEST_WAIT_S = 30.0
LONGEST_NAME = 100
# Anybody who reaches the address can send calls that are refused: above this rate they are counted, not recorded.
REFUSALS_A_MINUTE = 30
# These verbs change nothing, and their outcome is not recorded.
READING = ("status", "levels")

logger = logging.getLogger(__name__)


@dataclass
class Call:
    """One call, which is running or has ended with an answer or an error."""

    verb: str
    run: str
    model: str
    ended: threading.Event = field(default_factory=threading.Event)
    answer: Any = None
    error: dict[str, str] | None = None

    def state(self) -> dict[str, Any]:
        """{"state": "running"}, {"state": "failed", "error": …} or {"state": "done", "answer": …}."""
        if not self.ended.is_set():
            return {"state": "running"}
        if self.error is not None:
            return {"state": "failed", "error": self.error}
        return {"state": "done", "answer": self.answer}


class Service:
    """Checks tokens and arguments, records each call in the ledger, and carries it out with `traffic`."""

    def __init__(self, context: Context, traffic: Traffic, key: str) -> None:
        self._context, self._traffic, self._checker = context, traffic, Checker(key)
        self._calls: OrderedDict[str, Call] = OrderedDict()
        self._refusals: deque[float] = deque()
        self._unwritten, self._counting, self._beginning = 0, threading.Lock(), threading.Lock()

    def app(self) -> Starlette:
        routes = [
            Route("/health", self._health),
            Route("/v1/slots", self._slots),
            Route("/v1/calls/{call}", self._call),
            Route("/v1/newest-look", self._newest_look),
            Route("/v1/predictions", self._predictions, methods=["POST"]),
            Route("/v1/profile", self._profile, methods=["POST"]),
            Route("/v1/uncounted", self._uncounted),
            Route("/v1/log_files", self._log_files, methods=["POST"]),
            Route("/v1/take_profiles", self._take_profiles, methods=["POST"]),
            Route("/v1/{verb}", self._begin, methods=["POST"]),
        ]
        return Starlette(routes=routes)

    async def _health(self, request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def _slots(self, request: Request) -> Response:
        """Prometheus's service discovery: the addresses of all routed slots' metrics, which are no secret."""
        return JSONResponse(await run_in_threadpool(targets, self._context))

    async def _newest_look(self, request: Request) -> Response:
        """The newest look at the model's rollout, or null. A page asks every two seconds, so that only a refusal is recorded."""
        return await self._told_at_once(request, "newest_look", lambda model, run: self._traffic.newest_look(model))

    async def _uncounted(self, request: Request) -> Response:
        """The partitions of the log that have no profile yet. These are names, and no rows, so that only a refusal is recorded."""
        return await self._told_at_once(
            request, "uncounted", lambda model, run: self._traffic.uncounted(model).as_dict()
        )

    async def _take_profiles(self, request: Request) -> Response:
        """Keeps profiles that a worker counted; see pipeline.deployer.log_partitions.take."""

        def taken(model: str, run: str) -> dict[str, Any]:
            edges, found = profiles_of(b"".join(parts))
            arguments = {"model": model, "partitions": len(found)}
            self._record(DeployerCalled(verb="take_profiles", arguments=arguments), Call("take_profiles", run, model))
            return self._traffic.take_profiles(run, model, edges, found).as_dict()

        parts: list[bytes] = []
        return await self._told_at_once(request, "take_profiles", taken, parts)

    async def _told_at_once(
        self, request: Request, verb: str, then: Callable[[str, str], Any], parts: list[bytes] | None = None
    ) -> Response:
        """The answer to a call that names its model in the address, so that its token is checked before its body, the `parts`, is read."""
        model = _model_of(request)
        try:
            run = self._checker.check(_token(request), verb, model)
        except TokenRefused as why:
            return await run_in_threadpool(self._refused, verb, model[:LONGEST_NAME], str(why))
        if parts is not None:
            size = 0
            async for part in request.stream():
                parts.append(part)
                if (size := size + len(part)) > MAX_PROFILES:
                    large = f"sends more than {MAX_PROFILES} bytes"
                    return await run_in_threadpool(self._refused, verb, model[:LONGEST_NAME], large, 413)
        try:
            if not MODEL_NAME.fullmatch(model):
                raise SettingsError(verb, "its model is not a valid name", "give a model of params.yaml")
            return JSONResponse(await run_in_threadpool(then, model, run))
        except PerennialError as error:
            return JSONResponse(error_body(error), 503)

    async def _begin(self, request: Request) -> Response:
        return await self._checked(request, request.path_params["verb"], self._start_call)

    async def _predictions(self, request: Request) -> Response:
        return await self._checked(request, "predictions", self._prediction_log)

    async def _profile(self, request: Request) -> Response:
        return await self._checked(request, "profile", self._log_profile)

    async def _log_files(self, request: Request) -> Response:
        return await self._checked(request, "log_files", self._stream_files)

    async def _call(self, request: Request) -> Response:
        """The state of a call, once it has ended or `wait_s` seconds have passed; 404 for a call that is not known."""
        call = self._calls.get(request.path_params["call"])
        try:
            self._checker.check(_token(request), "calls", call.model if call else _model_of(request))
        except TokenRefused as why:
            return await run_in_threadpool(self._refused, "calls", "", str(why))
        if call is None:
            return JSONResponse(error_body(SettingsError("call", "is not known here", "ask again")), 404)
        until = time.monotonic() + min(LONGEST_WAIT_S, _seconds(request.query_params.get("wait_s")))
        while not call.ended.is_set() and time.monotonic() < until:
            await asyncio.sleep(0.05)
        return JSONResponse(call.state())

    async def _checked(self, request: Request, verb: str, then: Callable[[str, dict[str, Any], str], Response]):
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > MAX_BODY:
                return await run_in_threadpool(self._refused, verb, "", f"sends more than {MAX_BODY} bytes", 413)
        token = _token(request)

        def checked() -> Response:
            try:
                arguments = arguments_of(verb, body)
            except SettingsError as error:
                return self._refused(verb, "", str(error), 400, error)
            try:
                run = self._checker.check(token, verb, arguments["model"])
            except TokenRefused as why:
                return self._refused(verb, arguments["model"], str(why))
            try:
                return then(verb, arguments, run)
            except PerennialError as error:
                return JSONResponse(error_body(error), 503)

        return await run_in_threadpool(checked)

    def _refused(
        self, verb: str, model: str, why: str, code: int = 401, error: PerennialError | None = None
    ) -> Response:
        refusal = error or SettingsError(
            "token", f"is refused: {why}", "check that caller and deployer have the same PERENNIAL_DEPLOYER_KEY"
        )
        if (unwritten := self._refusals_before()) is not None:
            refused = DeployerRefused(verb=verb[:40], why=why[:300], unwritten_before=unwritten)
            try:
                self._context.ledger.append(refused, model)
            except PerennialError as unrecorded:
                logger.error("a refused call of %s is not in the ledger: %s", verb[:40], unrecorded)
        return JSONResponse(error_body(refusal), code)

    def _refusals_before(self) -> int | None:
        """How many refusals were not recorded since the last one that was; None when this one must not be recorded either."""
        now = time.monotonic()
        with self._counting:
            while self._refusals and now - self._refusals[0] > 60:
                self._refusals.popleft()
            if len(self._refusals) >= REFUSALS_A_MINUTE:
                self._unwritten += 1
                return None
            self._refusals.append(now)
            before, self._unwritten = self._unwritten, 0
            return before

    def _start_call(self, verb: str, arguments: dict[str, Any], run: str) -> Response:
        number = arguments.pop("call")
        # A call that is sent twice at once is carried out once.
        with self._beginning:
            if number not in self._calls:
                call = Call(verb, run, arguments["model"])
                self._record(DeployerCalled(verb=call.verb, arguments=arguments), call)
                self._calls[number] = call
                while len(self._calls) > REMEMBERED_CALLS and next(iter(self._calls.values())).ended.is_set():
                    self._calls.popitem(last=False)
                threading.Thread(target=self._carry_out, args=(call, arguments), name=f"{verb} {call.model}").start()
        return JSONResponse({"call": number}, 202)

    def _carry_out(self, call: Call, arguments: dict[str, Any]) -> None:
        with logs.about(call.model, call.run):
            try:
                call.answer = self._execute(call, arguments)
                outcome = "done"
                if call.verb not in READING:
                    logger.info("%s: done", call.verb)
            except PerennialError as error:
                call.error, outcome = error_body(error), str(error)
                logger.warning("%s: %s", call.verb, outcome)
            except Exception as error:
                logger.exception("%s failed", call.verb)
                outcome = f"{type(error).__name__}: {error}"
                subject, check = f"{call.verb} {call.model}", "look at the deployer's log"
                call.error = {"subject": subject, "observation": outcome, "next_check": check}
            if call.verb not in READING:
                self._record_answer(call, outcome)
        call.ended.set()

    def _record_answer(self, call: Call, outcome: str) -> None:
        try:
            self._record(DeployerAnswered(verb=call.verb, outcome=outcome), call)
        except PerennialError as unrecorded:
            logger.error("the outcome of %s is not in the ledger: %s", call.verb, unrecorded)

    def _execute(self, call: Call, arguments: dict[str, Any]) -> Any:
        """What the verb returns, as JSON takes it."""
        rest = {name: value for name, value in arguments.items() if name != "model"}
        if call.verb == "status":
            return [status.as_dict() for status in self._traffic.status(call.model)]
        if call.verb == "evidence":
            return self._traffic.evidence(call.model, rest["version"]).as_dict()
        if call.verb == "serving_system":
            return self._traffic.serving_system(call.model, rest["runtime"]).as_dict()
        if call.verb == "answered":
            return [answered.as_dict() for answered in self._traffic.answered(call.model, rest["request"])]
        if call.verb == "levels":
            return [report.as_dict() for report in self._traffic.levels(call.model, rest["hours"])]
        if call.verb == "reconcile":
            return self._traffic.reconcile(call.run, [call.model] if call.model else None)
        traffic = self._traffic.asked_by(rest.pop("asked_by", "")[:LONGEST_NAME])
        result = getattr(traffic, call.verb)(call.run, call.model, **rest)
        return result.as_dict() if isinstance(result, Result) else result

    def _prediction_log(self, verb: str, arguments: dict[str, Any], run: str) -> Response:
        """The prediction log's rows between two times, as Parquet."""
        rest = self._span_of_log(verb, arguments, run)
        log = self._traffic.predictions(**rest)
        out = io.BytesIO()
        log.rows.to_parquet(out, index=False)
        headers = {"x-logged": str(log.logged), "x-damaged-files": str(log.damaged_files)}
        if log.quality is not None:
            headers["x-logged-quality"] = log.quality.as_text()
        return Response(out.getvalue(), media_type="application/vnd.apache.parquet", headers=headers)

    def _log_profile(self, verb: str, arguments: dict[str, Any], run: str) -> Response:
        """The profile of the prediction log between two times, as JSON."""
        return JSONResponse(self._traffic.profile(**self._span_of_log(verb, arguments, run)).as_dict())

    def _stream_files(self, verb: str, arguments: dict[str, Any], run: str) -> Response:
        """Whole files of the prediction log, those that are there still; see pipeline.deployer.partition_stream."""
        model, names = arguments["model"], [str(name) for name in arguments["partitions"]]
        self._record(
            DeployerCalled(verb=verb, arguments={"model": model, "partitions": len(names)}), Call(verb, run, model)
        )
        files = framed(log_partitions.opened(self._context, model, names))
        return StreamingResponse(files, media_type="application/octet-stream")

    def _span_of_log(self, verb: str, arguments: dict[str, Any], run: str) -> dict[str, Any]:
        """The arguments with their times, once the call is recorded."""
        self._record(DeployerCalled(verb=verb, arguments=arguments), Call(verb, run, arguments["model"]))
        return arguments | {name: datetime.fromisoformat(arguments[name]) for name in ("start", "end")}

    def _record(self, event: Event, call: Call) -> None:
        self._context.ledger.append(event, call.model, call.run, "deployer")


def targets(context: Context) -> list[dict[str, Any]]:
    """One entry for each slot that has or may get traffic: {"targets": ["host:port"], "labels": {…}}."""
    entries: list[dict[str, Any]] = []
    for model in route_file.routed_models(context.home):
        try:
            current = route_file.read(context.home, model)
        except PerennialError:
            continue  # reconcile writes such a route again
        if current is None:
            continue
        for role in ("live", "previous", "candidate"):
            routed = getattr(current, role)
            if routed is not None:
                labels = {"model": model, "slot": routed.slot, "version": routed.version, "role": role}
                entries.append({"targets": [routed.address.partition("://")[2]], "labels": labels})
    return entries


def error_body(error: PerennialError) -> dict[str, str]:
    """The error as JSON; pipeline.deployer.client raises it again."""
    return {
        "kind": type(error).__name__,
        "subject": error.subject,
        "observation": error.observation,
        "next_check": error.next_check,
    }


def _token(request: Request) -> str:
    return request.headers.get("authorization", "").removeprefix("Bearer ")


def _model_of(request: Request) -> str:
    return request.query_params.get("model", "")


def _seconds(text: str | None) -> float:
    return float(text) if text and text.isdigit() else 0.0
