"""The deployer: the one container with the engine's socket. `python -m pipeline.deployer` serves it.

Fixed verbs with fixed arguments; each call carries a token (pipeline.deployer.tokens) and has its events in the ledger,
refused ones too. What takes long is carried out in a thread, and asked after by its number.
"""

from __future__ import annotations

import asyncio
import io
import json
import re
import threading
import time
import traceback
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from pipeline.context import Context
from pipeline.deployer.api import Traffic
from pipeline.deployer.tokens import Checker, TokenRefused
from pipeline.errors import PerennialError, SettingsError
from pipeline.ledger.events import DeployerAnswered, DeployerCalled, DeployerRefused, Event
from pipeline.rollout.results import Result
from pipeline.rollout.routing import route_file

MAX_BODY = 65_536
KEPT_CALLS = 200
LONGEST_WAIT_S = 30.0
# Whoever reaches the address can be refused: a flood of that is counted, not written down one by one.
REFUSALS_A_MINUTE = 30
TEXT, NUMBER, MAYBE = (str,), (int, float), (str, type(None))
NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")
VERSION = re.compile(r"[0-9]{1,9}")
# By verb: its arguments beside the model, with their types.
ARGUMENTS: dict[str, dict[str, tuple[type, ...]]] = {
    "deploy": {"version": TEXT, "reason": TEXT, "strategy": MAYBE, "wait_s": NUMBER},
    "rollback": {"reason": TEXT},
    "replace": {"reason": TEXT, "leaving": TEXT, "by": TEXT},
    "reconcile": {},
    "retire": {},
    "status": {},
    "predictions": {"start": TEXT, "end": TEXT},
}
FOR_ALL = ("reconcile", "status")


@dataclass
class Call:
    """One call: it runs, or has ended with an answer or an error."""

    verb: str
    run: str
    model: str
    ended: threading.Event = field(default_factory=threading.Event)
    answer: Any = None
    error: dict[str, str] | None = None

    def told(self) -> dict[str, Any]:
        if not self.ended.is_set():
            return {"state": "running"}
        if self.error is not None:
            return {"state": "failed", "error": self.error}
        return {"state": "done", "answer": self.answer}


class Service:
    """Checks tokens and arguments, writes the ledger, and lets `traffic` do what was asked."""

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
            Route("/v1/predictions", self._predictions, methods=["POST"]),
            Route("/v1/{verb}", self._begin, methods=["POST"]),
        ]
        return Starlette(routes=routes)

    async def _health(self, request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def _slots(self, request: Request) -> Response:
        """Prometheus's service discovery: where the slots of all routes tell of themselves. Names only, no secret."""
        return JSONResponse(await run_in_threadpool(targets, self._context))

    async def _begin(self, request: Request) -> Response:
        return await self._checked(request, request.path_params["verb"], self._begun)

    async def _predictions(self, request: Request) -> Response:
        return await self._checked(request, "predictions", self._log)

    async def _call(self, request: Request) -> Response:
        """How a call stands, after at most `wait_s`: 404 for one that this process does not know."""
        call = self._calls.get(request.path_params["call"])
        try:
            self._checker.check(_token(request), "calls", call.model if call else _model_of(request))
        except TokenRefused as why:
            return await run_in_threadpool(self._refused, "calls", "", str(why))
        if call is None:
            return JSONResponse(_told(SettingsError("call", "is not known here", "ask again")), 404)
        until = time.monotonic() + min(LONGEST_WAIT_S, _seconds(request.query_params.get("wait_s")))
        while not call.ended.is_set() and time.monotonic() < until:
            await asyncio.sleep(0.05)
        return JSONResponse(call.told())

    async def _checked(self, request: Request, verb: str, then: Callable[[str, dict[str, Any], str], Response]):
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > MAX_BODY:
                return await run_in_threadpool(self._refused, verb, "", f"sends more than {MAX_BODY} bytes", 413)
        token = _token(request)

        def checked() -> Response:
            try:
                asked = arguments_of(verb, body)
            except SettingsError as error:
                return self._refused(verb, "", str(error), 400, error)
            try:
                run = self._checker.check(token, verb, asked["model"])
            except TokenRefused as why:
                return self._refused(verb, asked["model"], str(why))
            try:
                return then(verb, asked, run)
            except PerennialError as error:
                return JSONResponse(_told(error), 503)

        return await run_in_threadpool(checked)

    def _refused(
        self, verb: str, model: str, why: str, code: int = 401, error: PerennialError | None = None
    ) -> Response:
        told = error or SettingsError("token", f"is refused: {why}", "are both given the same key?")
        if (unwritten := self._refusals_before()) is not None:
            refused = DeployerRefused(verb=verb[:40], why=why[:300], unwritten_before=unwritten)
            try:
                self._context.ledger.append(refused, model)
            except PerennialError as lost:
                print(lost, flush=True)
        return JSONResponse(_told(told), code)

    def _refusals_before(self) -> int | None:
        """How many were not written down since the last that was; None when this one is not to be either."""
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

    def _begun(self, verb: str, asked: dict[str, Any], run: str) -> Response:
        number = asked.pop("call")
        # One that is sent twice at once is carried out once.
        with self._beginning:
            if number not in self._calls:
                call = Call(verb, run, asked["model"])
                self._record(DeployerCalled(verb=call.verb, arguments=asked), call)
                self._calls[number] = call
                while len(self._calls) > KEPT_CALLS and next(iter(self._calls.values())).ended.is_set():
                    self._calls.popitem(last=False)
                threading.Thread(target=self._carry_out, args=(call, asked), name=f"{verb} {call.model}").start()
        return JSONResponse({"call": number}, 202)

    def _carry_out(self, call: Call, asked: dict[str, Any]) -> None:
        try:
            call.answer = self._do(call, asked)
            outcome = "done"
        except PerennialError as error:
            call.error, outcome = _told(error), str(error)
        except Exception as error:
            traceback.print_exc()
            outcome = f"{type(error).__name__}: {error}"
            call.error = {"subject": f"{call.verb} {call.model}", "observation": outcome, "next_check": "read its log"}
        try:
            if call.verb != "status":
                self._record(DeployerAnswered(verb=call.verb, outcome=outcome), call)
        except PerennialError as lost:
            print(lost, flush=True)
        call.ended.set()

    def _do(self, call: Call, asked: dict[str, Any]) -> Any:
        arguments = {name: value for name, value in asked.items() if name != "model"}
        if call.verb == "status":
            return self._traffic.status(call.model)
        if call.verb == "reconcile":
            return self._traffic.reconcile(call.run, [call.model] if call.model else None)
        result = getattr(self._traffic, call.verb)(call.run, call.model, **arguments)
        return result.as_dict() if isinstance(result, Result) else result

    def _log(self, verb: str, asked: dict[str, Any], run: str) -> Response:
        """The prediction log's rows of a time, as Parquet."""
        call = Call(verb, run, asked["model"])
        self._record(DeployerCalled(verb=call.verb, arguments=asked), call)
        start, end = (datetime.fromisoformat(asked[name]) for name in ("start", "end"))
        rows, logged = self._traffic.predictions(asked["model"], start, end)
        out = io.BytesIO()
        rows.to_parquet(out, index=False)
        return Response(out.getvalue(), media_type="application/vnd.apache.parquet", headers={"x-logged": str(logged)})

    def _record(self, event: Event, call: Call) -> None:
        self._context.ledger.append(event, call.model, call.run, "deployer")


def arguments_of(verb: str, body: bytes) -> dict[str, Any]:
    """{"model", "call", …} of a call. Raises SettingsError for a verb, a name or a value that is not one."""
    if verb not in ARGUMENTS:
        raise SettingsError(f"verb {verb[:40]}", "is not known", f"the verbs are {', '.join(ARGUMENTS)}")
    try:
        told = json.loads(body)
    except ValueError as error:
        raise SettingsError(verb, "its arguments are no JSON", "send an object") from error
    wanted = {"model": TEXT, **ARGUMENTS[verb]} | ({} if verb == "predictions" else {"call": TEXT})
    if not isinstance(told, dict) or set(told) != set(wanted):
        raise SettingsError(verb, "has other arguments than it takes", f"it takes {', '.join(wanted)}")
    for name, types in wanted.items():
        if not isinstance(told[name], types) or isinstance(told[name], bool):
            raise SettingsError(verb, f"{name} is of another type", f"it is {types[0].__name__}")
    if not NAME.fullmatch(told["model"]) and not (verb in FOR_ALL and told["model"] == ""):
        raise SettingsError(verb, "the model has no name that a model can have", "see params.yaml")
    for name in ("version", "leaving", "by"):
        if name in told and not VERSION.fullmatch(told[name]):
            raise SettingsError(verb, f"{name} is no version", "give the registry's number")
    for name in ("start", "end"):
        if name in told:
            _time(verb, told[name])
    return told


def _time(verb: str, text: str) -> None:
    try:
        datetime.fromisoformat(text)
    except ValueError as error:
        raise SettingsError(verb, f"{text[:40]} is no time", "write it as ISO 8601") from error


def targets(context: Context) -> list[dict[str, Any]]:
    """One entry a slot that has or may get traffic: {"targets": ["host:port"], "labels": {…}}."""
    found = []
    for model in route_file.routed_models(context.home):
        try:
            current = route_file.read(context.home, model)
        except PerennialError:
            continue  # reconcile says so, and writes it again
        if current is None:
            continue
        for role in ("live", "previous", "candidate"):
            share = getattr(current, role)
            if share is not None:
                labels = {"model": model, "slot": share.slot, "version": share.version, "role": role}
                found.append({"targets": [share.address.partition("://")[2]], "labels": labels})
    return found


def _told(error: PerennialError) -> dict[str, str]:
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
