"""The HTTP face of a slot: Open Inference Protocol v2 and MLflow's /invocations.

Every answer says which model, version and slot gave it. A 4xx names the field and the row.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pipeline.serving.metrics import Metrics
from pipeline.serving.prediction_log import PredictionLog
from pipeline.serving.runtime import BadRequest, Runtime

MAX_BODY_BYTES = 16 * 1024 * 1024
MAX_ROWS = 10_000


@dataclass(frozen=True)
class Identity:
    """Who answers."""

    model: str
    version: str
    slot: str

    def headers(self) -> dict[str, str]:
        return {"x-model": self.model, "x-model-version": self.version, "x-slot": self.slot}


def create_app(runtime: Runtime, log: PredictionLog | None, identity: Identity) -> Starlette:
    """The server of one package in one slot. `log` None writes no prediction log."""
    slot = Slot(runtime, log, identity)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        if log is not None:
            log.close()
        # The engine that ends the slot reads this line, and tells the ledger.
        print(f"drained: {slot.cut_off} requests cut off", flush=True)

    model = f"/v2/models/{identity.model}"
    routes = [
        Route("/v2/health/live", slot.live),
        Route("/v2/health/ready", slot.live),
        Route("/v2", slot.server),
        Route(model, slot.metadata),
        Route(f"{model}/ready", slot.live),
        Route(f"{model}/infer", slot.infer, methods=["POST"]),
        Route("/invocations", slot.invocations, methods=["POST"]),
        Route("/ping", slot.live),
        Route("/metrics", slot.metrics),
    ]
    return Starlette(routes=routes, lifespan=lifespan)


class Slot:
    """The handlers. One row or many: parse, predict, log, answer."""

    def __init__(self, runtime: Runtime, log: PredictionLog | None, identity: Identity) -> None:
        self.runtime, self.log, self.identity = runtime, log, identity
        self._headers = identity.headers()
        self._counts = Metrics({"model": identity.model, "version": identity.version, "slot": identity.slot})
        self.cut_off = 0

    async def live(self, _request: Request) -> Response:
        lost = self.log.lost if self.log is not None else 0
        return self._json({"live": True, "ready": True, "version": self.identity.version, "log_rows_lost": lost})

    async def metrics(self, _request: Request) -> Response:
        page, kind = self._counts.text(self.log.lost if self.log is not None else 0)
        return Response(page, media_type=kind)

    async def server(self, _request: Request) -> Response:
        return self._json({"name": "perennial", "version": "1", "extensions": []})

    async def metadata(self, _request: Request) -> Response:
        types = {"number": "FP32", "string": "BYTES"}
        return self._json(
            {
                "name": self.identity.model,
                "versions": [self.identity.version],
                "platform": "onnxruntime",
                "inputs": [{"name": n, "datatype": types[k], "shape": [-1, 1]} for n, k in self.runtime.kinds.items()],
                "outputs": [{"name": "prediction", "datatype": "FP64", "shape": [-1]}],
            }
        )

    async def invocations(self, request: Request) -> Response:
        return await self._answer(request, self._from_invocations, lambda p: {"predictions": p})

    async def infer(self, request: Request) -> Response:
        def shaped(predictions: list[float]) -> dict[str, Any]:
            output = {"name": "prediction", "datatype": "FP64", "shape": [len(predictions)], "data": predictions}
            return {"model_name": self.identity.model, "model_version": self.identity.version, "outputs": [output]}

        return await self._answer(request, self._from_v2, shaped)

    async def _answer(self, request: Request, parse: Any, shape: Any) -> Response:
        start = time.perf_counter()
        with self._counts.under_way.track_inprogress():
            try:
                answer = await self._answered(request, parse, shape)
            except asyncio.CancelledError:
                # The server ends, and this request was not done within the time to drain.
                self.cut_off += 1
                raise
        self._counts.answered(answer.status_code, time.perf_counter() - start)
        return answer

    async def _answered(self, request: Request, parse: Any, shape: Any) -> Response:
        request_id = request.headers.get("x-request-id", "")[:128] or uuid.uuid4().hex
        try:
            body = await self._body(request)
            records = parse(body)
            if not records:
                raise BadRequest("the request has no rows")
            if len(records) > MAX_ROWS:
                raise BadRequest(f"the request has {len(records)} rows, at most {MAX_ROWS} are answered at once")
            columns = self.runtime.columns(records)
            self._refuse_unknown(records)
        except BadRequest as error:
            return self._json({"error": str(error)}, 400, request_id)
        predictions = self.runtime.predict(columns)
        if not np.isfinite(predictions).all():
            return self._json({"error": "the model gave an answer that is no number"}, 500, request_id)
        answers = predictions.tolist()
        self._counts.rows.inc(len(answers))
        self._log(request_id, records, answers)
        return self._json(shape(answers), 200, request_id)

    async def _body(self, request: Request) -> Any:
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY_BYTES:
                raise BadRequest(f"the body is larger than {MAX_BODY_BYTES // 2**20} MiB")
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as error:
            raise BadRequest(f"the body is not JSON ({error})") from error

    def _from_invocations(self, body: Any) -> list[dict[str, Any]]:
        match body:
            case {"dataframe_records": [*records]} | {"instances": [*records]} if all(
                isinstance(r, dict) for r in records
            ):
                return records
            case {"dataframe_split": {"columns": [*names], "data": [*rows]}}:
                if any(not isinstance(n, str) for n in names):
                    raise BadRequest("dataframe_split: the columns are not all text")
                for number, row in enumerate(rows):
                    if not isinstance(row, list) or len(row) != len(names):
                        raise BadRequest(f"row {number}: wants {len(names)} values")
                return [dict(zip(names, row, strict=True)) for row in rows]
            case _:
                raise BadRequest("wants dataframe_records, dataframe_split or instances with one object a row")

    def _from_v2(self, body: Any) -> list[dict[str, Any]]:
        if not isinstance(body, dict) or not isinstance(body.get("inputs"), list):
            raise BadRequest("wants inputs, one a feature")
        columns: dict[str, list[Any]] = {}
        for given in body["inputs"]:
            if (
                not isinstance(given, dict)
                or not isinstance(given.get("name"), str)
                or not isinstance(given.get("data"), list)
            ):
                raise BadRequest("each input wants a name and data")
            flat = given["data"]
            columns[given["name"]] = [v[0] if isinstance(v, list) and len(v) == 1 else v for v in flat]
        lengths = {len(values) for values in columns.values()}
        if len(lengths) > 1:
            raise BadRequest("the inputs do not all have the same number of rows")
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def _refuse_unknown(self, records: list[dict[str, Any]]) -> None:
        key, event_time = self.runtime.manifest["key"], self.runtime.manifest["event_time"]
        known = {*self.runtime.features, key, event_time}
        for row, record in enumerate(records):
            if not isinstance(record.get(key), str | int | None):
                raise BadRequest(f"row {row}: column {key} wants text or a whole number")
            if not _is_time(record.get(event_time)):
                raise BadRequest(f"row {row}: column {event_time} wants a time like 2024-02-01T00:00:00Z")
            if unknown := [str(name) for name in record if name not in known]:
                raise BadRequest(f"row {row}: column {unknown[0]} is unknown to the model")

    def _log(self, request_id: str, records: list[dict[str, Any]], answers: list[float]) -> None:
        if self.log is None:
            return
        key, event_time = self.runtime.manifest["key"], self.runtime.manifest["event_time"]
        received_at = datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="milliseconds")
        self.log.add(
            [
                {
                    "request_id": request_id,
                    "received_at": received_at,
                    "event_time": record.get(event_time),
                    "key": record.get(key),
                    "version": self.identity.version,
                    "slot": self.identity.slot,
                    "prediction": answer,
                    "features": {name: record[name] for name in self.runtime.features},
                }
                for record, answer in zip(records, answers, strict=True)
            ]
        )

    def _json(self, body: Any, status: int = 200, request_id: str = "") -> Response:
        headers = {**self._headers, "x-request-id": request_id} if request_id else self._headers
        return JSONResponse(body, status, headers)


def _is_time(value: Any) -> bool:
    if value is None:
        return True
    try:
        return isinstance(value, str) and datetime.fromisoformat(value) is not None
    except ValueError:
        return False
