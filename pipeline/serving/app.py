"""The HTTP application of a slot: Open Inference Protocol v2, MLflow's scoring protocol, metrics and documentation.

Each answer names its model, version, slot and request. Predictions are answered directly or as plain ASGI (see
`http_connection`); all other pages are Starlette's.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import secrets
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import orjson

from pipeline.serving import class_answers, forms, http_connection, quick_scan, state_pages
from pipeline.serving.arrival import Arrival, ClientDisconnected, Headers, Incoming
from pipeline.serving.batching import MAX_BATCH_ROWS, BatchRunner
from pipeline.serving.errors import EndedItsProcess, RequestRefused
from pipeline.serving.expendable import SENT_AGAIN, Expendable
from pipeline.serving.explain import Explanations
from pipeline.serving.explaining import Explaining
from pipeline.serving.forms import ParsedRequest
from pipeline.serving.identity import Identity
from pipeline.serving.intake import LARGE_BYTES, RECEIVED, Intake, receipt, received_at
from pipeline.serving.memory import Memory, Reservation
from pipeline.serving.metrics import (
    CUT_OFF,
    MODEL_RUNS,
    SENT_AGAIN_TO_US,
    UNDER_WAY,
    Metrics,
)
from pipeline.serving.prediction_log import AnsweredRequest, PredictionLog
from pipeline.serving.runtime import Runtime
from pipeline.serving.scan import UNSCANNED_BYTES, Bounds, CsvScan, Scan
from pipeline.serving.settings import Settings

JSON: forms.Headers = [(b"content-type", b"application/json")]
JSON_LINE = http_connection.header_lines(JSON)
# The router tries this answer's request no more.
FINAL: forms.Headers = [*JSON, (b"x-perennial-final", b"1")]
# What a text of a request takes until the model has it, in bytes: its object, and the pointers to it.
ROW_TEXT_BYTES = 80
FEW = 16
NOT_FINITE = "the model gave a prediction that is not a finite number"
FAILED = "the server failed; its output has the traceback"

logger = logging.getLogger(__name__)
Parse = Callable[[bytes, Headers], ParsedRequest]


class App:
    """The ASGI application of one package in one slot. Without `log` no prediction log is written, and without `expendable` a request
    that is sent again is answered as any other."""

    def __init__(
        self,
        runtime: Runtime,
        log: PredictionLog | None,
        identity: Identity,
        settings: Settings | None = None,
        metrics: Metrics | None = None,
        expendable: Expendable | None = None,
    ) -> None:
        settings = settings or Settings()
        self._expendable = expendable
        self.runtime, self.log, self.identity, self.settings = runtime, log, identity, settings
        self.metrics = metrics or Metrics(identity.labels())
        self._runner = BatchRunner(runtime, settings.batching, lambda: self.metrics.add(MODEL_RUNS))
        self._explaining = Explaining(runtime)
        self._intake = Intake(settings)
        self._memory = Memory.of(settings)
        self._bounds = Bounds.of(runtime.reader, settings.max_rows)
        prefix = secrets.token_hex(8)
        self._ids = (f"{prefix}-{n:x}".encode() for n in itertools.count())
        self._identity_lines = http_connection.header_lines(
            [(k.encode(), v.encode()) for k, v in identity.headers().items()]
        )
        model, classes = f"/v2/models/{identity.model}", runtime.classes
        # What comes from another process has no shape of its own.
        self._shape = (-1, len(classes)) if classes else (-1,)
        encode = class_answers.mlflow_encoder(classes) if classes else None
        self._parsers: dict[str, Parse] = {
            "/invocations": lambda body, headers: forms.invocations(
                body, runtime.reader, settings.max_rows, headers.get(b"content-type", b""), encode, received_at(headers)
            )
        }
        self._infer: Parse = lambda body, headers: forms.infer(
            body,
            runtime.reader,
            settings.max_rows,
            headers.get(forms.BINARY_LENGTH),
            identity,
            classes,
            received_at(headers),
        )
        for path in (f"{model}/infer", f"{model}/versions/{identity.version}/infer"):
            self._parsers[path] = self._infer
        self.direct_urls = frozenset(path.encode() for path in self._parsers)
        # A larger body is scanned first; with rows enough for the thread it would be parsed twice.
        self._max_direct_bytes = min(UNSCANNED_BYTES, settings.max_body_bytes)
        self._pages = state_pages.application(identity, runtime, self.metrics, settings, model, self._parsers)

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["method"] == "POST" and (parse := self._parsers.get(scope["path"])):
            await self._handle_asgi(parse, scope, receive, send)
        else:
            await self._pages(scope, receive, send)

    def handle_direct(
        self,
        url: bytes,
        header_list: forms.Headers,
        body: bytes,
        respond: http_connection.Respond,
        arrived: float | None = None,
    ) -> bool:
        """The direct path of `http_connection.DirectApp`."""
        headers = dict(header_list)
        if len(body) > self._max_direct_bytes or b"content-encoding" in headers or SENT_AGAIN in headers:
            return False
        start = arrived if arrived is not None else time.perf_counter()
        headers[RECEIVED] = receipt()
        request_id, golden = self._request_id(headers), self._intake.is_golden(headers)
        try:
            self._intake.require_key(headers)
            request = self._parsers[url.decode()](body, headers)
        except Exception as error:
            status, refusal = self._refusal(error, golden)
            respond(status, self._header_lines(request_id, refusal), refusal)
            if not golden:
                self.metrics.count_response(status, time.perf_counter() - start)
            return True
        if len(request.rows) > MAX_BATCH_ROWS or request.encode_explained is not None:
            return False
        self.metrics.add(UNDER_WAY)
        self._runner.submit(request.rows, partial(self._respond_direct, request, request_id, golden, start, respond))
        return True

    def _respond_direct(
        self,
        request: ParsedRequest,
        request_id: bytes,
        golden: bool,
        start: float,
        respond: http_connection.Respond,
        result: np.ndarray | Exception,
    ) -> None:
        """Ends the direct path with the predictions or the model's error."""
        self.metrics.add(UNDER_WAY, -1)
        status, headers = 200, JSON
        try:
            if isinstance(result, Exception):
                raise result
            body, headers = self._prediction_response(request, result, request_id, golden)
        except Exception as error:
            status, body = self._refusal(error, golden)
        respond(status, self._header_lines(request_id, body, headers), body)
        if not golden:
            self.metrics.count_response(status, time.perf_counter() - start, len(request.rows) if status == 200 else 0)

    async def _handle_asgi(self, parse: Parse, scope: Any, receive: Any, send: Any) -> None:
        """The ASGI path of a prediction."""
        start = scope.get(http_connection.ARRIVED) or time.perf_counter()
        headers: Headers = dict(scope["headers"]) | {RECEIVED: receipt()}
        request_id, golden = self._request_id(headers), self._intake.is_golden(headers)
        incoming = self._intake.incoming(headers, receive)
        self.metrics.add(UNDER_WAY)
        status, rows, own_headers, whole = 200, 0, JSON, True
        try:
            try:
                request, predictions = await self._predict(parse, scope["path"], headers, incoming)
                asked = request.encode_explained is not None
                explained = await self._explaining.explain(request.rows, predictions) if asked else None
                body, own_headers = self._prediction_response(request, predictions, request_id, golden, explained)
                rows = len(request.rows)
            except ClientDisconnected:
                raise
            except Exception as error:
                status, body = self._refusal(error, golden)
                own_headers = FINAL if isinstance(error, EndedItsProcess) else JSON
                whole = status != 408 and await incoming.read_rest()
        except ClientDisconnected:
            return
        except asyncio.CancelledError:
            # The server ends, and this request was not answered within the drain time.
            self.metrics.add(CUT_OFF)
            raise
        finally:
            incoming.close()
            self.metrics.add(UNDER_WAY, -1)
        lines = self._header_lines(request_id, body, own_headers)
        cycle = scope.get(http_connection.CYCLE)
        if not http_connection.write_response(cycle, status, lines, body, last=not whole):
            await _send(send, status, lines if whole else lines + b"connection: close\r\n", body)
        if not golden:
            self.metrics.count_response(status, time.perf_counter() - start, rows)

    async def _predict(
        self, parse: Parse, path: str, headers: Headers, incoming: Incoming
    ) -> tuple[ParsedRequest, np.ndarray]:
        """Reads and parses a request; returns it and its predictions."""
        self._intake.require_key(headers)
        with self._memory.reservation() as reserved:
            packed = bool(headers.get(b"content-encoding"))
            start = await self._intake.start(incoming, packed, SENT_AGAIN in headers, reserved)
            proven = None if incoming.more else await self._proven(path, headers, start)
            request = await self._request(parse, headers, start, incoming, reserved)
            rows = request.rows
            if request.encode_explained is not None:
                self._explaining.allowed(rows)
            reserved.take(rows.numbers.nbytes + ROW_TEXT_BYTES * rows.texts.size)
            return request, proven if proven is not None else await self._runner.predict(rows)

    async def _proven(self, path: str, headers: Headers, body: bytes) -> np.ndarray | None:
        """The predictions of the expendable process for a request that is sent again; None for any other.

        Only then is the request parsed here: what parses a body may die of it too. The router sends none again that is large or packed.
        """
        if self._expendable is None or SENT_AGAIN not in headers or len(body) > LARGE_BYTES:
            return None
        self.metrics.add(SENT_AGAIN_TO_US)
        predictions = await self._expendable.predictions(path, headers, body)
        self.metrics.add(MODEL_RUNS)
        return predictions.reshape(self._shape)

    def predictions(self, path: str, headers: Headers, body: bytes) -> np.ndarray:
        """Predictions, made at once in this thread, and encoded to see that this can be done."""
        try:
            parse = self._parsers[path]
            with self._memory.reservation() as reserved:
                request = self._small(parse, headers, body)
                if request is None:
                    request = self._scanned(parse, headers, body, reserved)
                predictions = self.runtime.predict(request.rows)
                request.encode(predictions)
                if request.encode_explained is not None:
                    # What it may die of is tried here too.
                    self._explaining.allowed(request.rows).explain(request.rows, predictions)
                return predictions
        except RequestRefused:
            raise
        except Exception as error:
            logger.error("a request failed", exc_info=error)
            raise RequestRefused(500, FAILED) from error

    async def _request(
        self, parse: Parse, headers: Headers, start: bytes, incoming: Incoming, reserved: Reservation
    ) -> ParsedRequest:
        """Reads and parses a request: a small one as it is, a larger one after a scan, which begins while it arrives."""
        if not incoming.more:
            if (small := self._small(parse, headers, start)) is not None:
                return small
            if len(start) <= LARGE_BYTES and not headers.get(b"content-encoding"):
                return self._scanned(parse, headers, start, reserved)
            return await self._runner.in_thread(self._scanned, parse, headers, start, reserved)
        scan = self._scan(parse, headers)
        arrival = self._intake.arrival(headers.get(b"content-encoding", b""), scan, reserved)
        await self._runner.in_thread(arrival.feed, start)
        while incoming.more:
            await self._runner.in_thread(arrival.feed, await incoming.piece())
        return await self._runner.in_thread(self._parsed, parse, arrival, scan, headers, reserved)

    def _small(self, parse: Parse, headers: Headers, body: bytes) -> ParsedRequest | None:
        """A small request, parsed; None for a larger one."""
        small = self._intake.decompressed_small(body, headers.get(b"content-encoding", b""))
        return parse(small, headers) if small is not None else None

    def _scanned(self, parse: Parse, headers: Headers, body: bytes, reserved: Reservation) -> ParsedRequest:
        """Scans and parses a whole body."""
        scan = self._scan(parse, headers)
        if isinstance(scan, Scan) and b"content-encoding" not in headers and scan.end is None:
            most = quick_scan.most_parse_bytes(body, self._bounds)
            if most is not None:
                with reserved.during(most):
                    return parse(body, headers)
        arrival = self._intake.arrival(headers.get(b"content-encoding", b""), scan, reserved)
        arrival.feed(body)
        return self._parsed(parse, arrival, scan, headers, reserved)

    def _scan(self, parse: Parse, headers: Headers) -> Scan | CsvScan:
        # The v2 protocol has no CSV: there such a body is parsed as JSON.
        if parse is not self._infer and forms.is_csv(headers.get(b"content-type", b"")):
            return CsvScan(self.runtime.reader.columns, self.settings.max_rows)
        return Scan(self._bounds, forms.json_end(headers) if parse is self._infer else None)

    def _parsed(
        self, parse: Parse, arrival: Arrival, scan: Scan | CsvScan, headers: Headers, reserved: Reservation
    ) -> ParsedRequest:
        """Parses a body that the scan has let pass, with the memory for it reserved."""
        body = arrival.whole()
        with reserved.during(scan.parse_bytes()):
            return parse(body, headers)

    def _prediction_response(
        self,
        request: ParsedRequest,
        predictions: np.ndarray,
        request_id: bytes,
        golden: bool,
        explained: Explanations | None = None,
    ) -> tuple[bytes, forms.Headers]:
        """(body, its own headers), with explanations where there are any; logs the prediction. Raises RequestRefused when one is not a finite
        number."""
        if not _all_finite(predictions):
            raise RequestRefused(500, NOT_FINITE)
        if self.log is not None:
            at = request.rows.received or time.time()
            self.log.add(AnsweredRequest(request_id.decode("latin-1"), at, request.rows, predictions, golden))
        if explained is not None and request.encode_explained is not None:
            body, headers = request.encode_explained(predictions, explained)
        else:
            body, headers = request.encode(predictions)
        if not golden:
            self.metrics.count_unusual(request.rows)
        return body, headers or JSON

    def _refusal(self, error: Exception, golden: bool) -> tuple[int, bytes]:
        """(status, body) of a request that gets no predictions, which is counted by its kind."""
        if not golden:
            kind = error.kind if isinstance(error, RequestRefused) else "server"
            self.metrics.count_refused(kind)
            if self.log is not None and self.log.requests is not None:
                self.log.requests.add(kind)
        return _error_response(error)

    def _request_id(self, headers: Headers) -> bytes:
        return headers.get(b"x-request-id", b"")[:128] or next(self._ids)

    def _header_lines(self, request_id: bytes, body: bytes, headers: forms.Headers = JSON) -> bytes:
        own = JSON_LINE if headers is JSON else http_connection.header_lines(headers)
        return b"%bx-request-id: %b\r\ncontent-length: %d\r\n%b" % (self._identity_lines, request_id, len(body), own)


def _all_finite(predictions: np.ndarray) -> bool:
    # numpy takes longer to begin than a few numbers take.
    if predictions.size <= FEW:
        return all(map(math.isfinite, predictions.reshape(-1).tolist()))
    # A finite sum nearly always means finite numbers, and takes half the time of checking each.
    return math.isfinite(predictions.sum()) or bool(np.isfinite(predictions).all())


def _error_response(error: Exception) -> tuple[int, bytes]:
    """(status, body). An error that is no refusal is logged with its traceback."""
    if isinstance(error, RequestRefused):
        return error.status, orjson.dumps({"error": str(error)})
    logger.error("a request failed", exc_info=error)
    return 500, orjson.dumps({"error": FAILED})


async def _send(send: Any, status: int, lines: bytes, body: bytes) -> None:
    headers = [line.split(b": ", 1) for line in lines.split(b"\r\n") if line]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
