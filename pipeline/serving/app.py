"""The HTTP face of a slot: Open Inference Protocol v2, MLflow's scoring protocol, metrics and documentation.

Every answer says which model, version and slot gave it, and for which request. Predictions that come whole go a short way
(see `connection`), others plain ASGI; all else is Starlette.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import secrets
import time
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pipeline.serving import docs, forms, http_connection, metrics
from pipeline.serving.batching import TOGETHER_ROWS, Runner
from pipeline.serving.errors import Refused
from pipeline.serving.forms import Asked
from pipeline.serving.identity import Identity
from pipeline.serving.intake import Gone, Headers, Intake
from pipeline.serving.metrics import Metrics
from pipeline.serving.prediction_log import Entry, PredictionLog
from pipeline.serving.runtime import Runtime
from pipeline.serving.settings import Settings

JSON: forms.Headers = [(b"content-type", b"application/json")]
JSON_LINE = http_connection.as_lines(JSON)
# Reading a larger body takes some milliseconds, in which others would wait.
LARGE_BYTES = 128 * 1024
# What is larger is not asked the short way: with so many rows that they run in a thread it would be read twice.
SHORT_BYTES = 32 * 1024
NO_NUMBER = "the model gave an answer that is no number"


class App:
    """The ASGI application of one package in one slot. `log` None writes no prediction log."""

    def __init__(
        self,
        runtime: Runtime,
        log: PredictionLog | None,
        identity: Identity,
        settings: Settings | None = None,
        counts: Metrics | None = None,
    ) -> None:
        settings = settings or Settings()
        self.runtime, self.log, self.identity, self.settings = runtime, log, identity, settings
        labels = {"model": identity.model, "version": identity.version, "slot": identity.slot}
        self.counts = counts or Metrics(labels)
        self._runner = Runner(runtime, settings.batching, lambda: self.counts.add(metrics.BATCHES))
        self._intake = Intake(settings)
        own = secrets.token_hex(8)
        self._ids = (f"{own}-{n:x}".encode() for n in itertools.count())
        self._said = http_connection.as_lines([(k.encode(), v.encode()) for k, v in identity.headers().items()])
        model = f"/v2/models/{identity.model}"
        who = (identity.model, identity.version)
        self._asked: dict[str, Callable[[bytes, Headers], Asked]] = {
            "/invocations": lambda body, _: forms.invocations(body, runtime.signature, settings.max_rows)
        }
        for path in (f"{model}/infer", f"{model}/versions/{identity.version}/infer"):
            self._asked[path] = lambda body, headers: forms.infer(
                body, runtime.signature, settings.max_rows, headers.get(forms.BINARY_LENGTH), who
            )
        self.short = frozenset(path.encode() for path in self._asked)
        self._short_bytes = min(SHORT_BYTES, settings.max_body_bytes)
        self._pages = _pages(self, model)

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["method"] == "POST" and (read := self._asked.get(scope["path"])):
            await self._predict(read, scope, receive, send)
        else:
            await self._pages(scope, receive, send)

    def at_once(self, url: bytes, given: forms.Headers, body: bytes, reply: http_connection.Reply) -> bool:
        """The short way of `connection.ShortWay`."""
        headers = dict(given)
        if len(body) > self._short_bytes or b"content-encoding" in headers:
            return False
        start = time.perf_counter()
        request_id = self._request_id(headers)
        try:
            self._intake.refuse_stranger(headers)
            asked = self._asked[url.decode()](body, headers)
        except Exception as error:
            status, told = _failure(error)
            reply(status, self._lines(request_id, told), told)
            self.counts.answered(status, time.perf_counter() - start)
            return True
        if len(asked.rows) > TOGETHER_ROWS:
            return False
        self.counts.add(metrics.UNDER_WAY)
        self._runner.soon(asked.rows, partial(self._reply, asked, request_id, start, reply))
        return True

    def _reply(
        self, asked: Asked, request_id: bytes, start: float, reply: http_connection.Reply, ran: np.ndarray | Exception
    ) -> None:
        """The end of the short way."""
        self.counts.add(metrics.UNDER_WAY, -1)
        status, more = 200, JSON
        try:
            if isinstance(ran, Exception):
                raise ran
            body, more = self._answered(asked, ran, request_id)
        except Exception as error:
            status, body = _failure(error)
        reply(status, self._lines(request_id, body, more), body)
        self.counts.answered(status, time.perf_counter() - start, len(asked.rows) if status == 200 else 0)

    async def _predict(self, read: Callable[[bytes, Headers], Asked], scope: Any, receive: Any, send: Any) -> None:
        """The long way."""
        start = time.perf_counter()
        headers: Headers = dict(scope["headers"])
        request_id = self._request_id(headers)
        self.counts.add(metrics.UNDER_WAY)
        status, rows, more = 200, 0, JSON
        try:
            try:
                asked, predictions = await self._ran(read, headers, receive)
                (body, more), rows = self._answered(asked, predictions, request_id), len(asked.rows)
            except Gone:
                raise
            except Exception as error:
                status, body = _failure(error)
        except (Gone, asyncio.CancelledError) as error:
            # The client went; or the server ends, and this was not done within the time to drain.
            self.counts.add(metrics.CUT_OFF, isinstance(error, asyncio.CancelledError))
            if isinstance(error, Gone):
                return
            raise
        finally:
            self.counts.add(metrics.UNDER_WAY, -1)
        lines = self._lines(request_id, body, more)
        # After a 408 or 413 what is left of the body is not read.
        closing = status in (408, 413)
        if closing or not http_connection.answer(scope.get(http_connection.CYCLE), status, lines, body):
            await _send(send, status, lines + (b"connection: close\r\n" if closing else b""), body)
        self.counts.answered(status, time.perf_counter() - start, rows)

    async def _ran(
        self, read: Callable[[bytes, Headers], Asked], headers: Headers, receive: Any
    ) -> tuple[Asked, np.ndarray]:
        self._intake.refuse_stranger(headers)
        body = await self._intake.body(headers, receive)
        asked = read(body, headers) if len(body) < LARGE_BYTES else await self._runner.aside(read, body, headers)
        return asked, await self._runner.predict(asked.rows)

    def _answered(self, asked: Asked, predictions: np.ndarray, request_id: bytes) -> tuple[bytes, forms.Headers]:
        """(body, its own headers); the prediction is logged. Raises Refused for what is no number."""
        # The sum of finite ones is finite, as a rule; it is found in half the time.
        if not math.isfinite(predictions.sum()) and not np.isfinite(predictions).all():
            raise Refused(500, NO_NUMBER)
        if self.log is not None:
            self.log.add(Entry(request_id.decode("latin-1"), time.time(), asked.rows, predictions))
        body, more = asked.write(predictions)
        return body, more or JSON

    def _request_id(self, headers: Headers) -> bytes:
        return headers.get(b"x-request-id", b"")[:128] or next(self._ids)

    def _lines(self, request_id: bytes, body: bytes, more: forms.Headers = JSON) -> bytes:
        own = JSON_LINE if more is JSON else http_connection.as_lines(more)
        return b"%bx-request-id: %b\r\ncontent-length: %d\r\n%b" % (self._said, request_id, len(body), own)


def _failure(error: Exception) -> tuple[int, bytes]:
    """(status, body)."""
    if isinstance(error, Refused):
        return error.status, orjson.dumps({"error": str(error)})
    traceback.print_exception(error)
    return 500, orjson.dumps({"error": "the server failed; its output says how"})


async def _send(send: Any, status: int, lines: bytes, body: bytes) -> None:
    headers = [line.split(b": ", 1) for line in lines.split(b"\r\n") if line]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _pages(app: App, model: str) -> Starlette:
    """Everything but predictions."""
    identity, signature = app.identity, app.runtime.signature
    named = identity.headers()

    def told(body: Any) -> Response:
        return Response(orjson.dumps(body), media_type="application/json", headers=named)

    async def live(_request: Request) -> Response:
        lost = app.counts.total(metrics.LOST)
        return told({"live": True, "ready": True, "version": identity.version, "log_rows_lost": lost})

    async def server(_request: Request) -> Response:
        return told({"name": "perennial", "version": "1", "extensions": ["binary_tensor_data"]})

    async def metadata(_request: Request) -> Response:
        who = (identity.model, identity.version)
        return told(forms.metadata(signature, who, app.runtime.platform))

    async def counted(_request: Request) -> Response:
        page, kind = app.counts.text()
        return Response(page, media_type=kind)

    async def not_found(request: Request, _error: Exception) -> Response:
        body = {"error": f"{request.method} {request.url.path} is not here; GET /docs lists what is"}
        return Response(orjson.dumps(body), 404, named, "application/json")

    async def not_allowed(request: Request, error: Any) -> Response:
        body = {"error": f"{request.method} is not how {request.url.path} is asked; GET /docs says how"}
        return Response(orjson.dumps(body), 405, {**named, **(error.headers or {})}, "application/json")

    versioned = f"{model}/versions/{identity.version}"
    pages = dict.fromkeys(("/v2/health/live", "/v2/health/ready", "/ping", "/health"), live)
    pages |= {f"{m}/ready": live for m in (model, versioned)} | dict.fromkeys((model, versioned), metadata)
    pages |= {"/v2": server, "/v2/": server, "/metrics": counted}
    routes = [Route(path, page) for path, page in pages.items()]
    posts = [Route(path, not_found, methods=["POST"]) for path in app._asked]
    return Starlette(
        routes=[*routes, *posts, *docs.routes(app.runtime, identity, app.settings)],
        exception_handlers={404: not_found, 405: not_allowed},
    )
