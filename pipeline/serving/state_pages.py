"""The pages of a slot beside its predictions: health, metadata, metrics, documentation, and what is refused. They are Starlette's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pipeline.serving import docs, forms
from pipeline.serving.identity import Identity
from pipeline.serving.metrics import LOG_FILES_DAMAGED, LOG_ROWS_LOST, Metrics
from pipeline.serving.runtime import Runtime
from pipeline.serving.settings import Settings

# Triton's, by the names that it gives them.
EXTENSIONS = ["binary_tensor_data", "model_configuration", "model_repository"]


def application(
    identity: Identity, runtime: Runtime, metrics: Metrics, settings: Settings, model: str, predicting: Iterable[str]
) -> Starlette:
    """All pages but predictions, whose paths are `predicting`. `model` is the model's URL in the v2 protocol."""
    reader, identity_headers = runtime.reader, identity.headers()

    def json_response(body: Any) -> Response:
        return Response(orjson.dumps(body), media_type="application/json", headers=identity_headers)

    async def live(_request: Request) -> Response:
        log = {
            "log_rows_lost": metrics.total(LOG_ROWS_LOST),
            "log_files_damaged": metrics.total(LOG_FILES_DAMAGED),
        }
        return json_response({"live": True, "ready": True, "version": identity.version, **log})

    async def server(_request: Request) -> Response:
        return json_response({"name": "perennial", "version": "1", "extensions": EXTENSIONS})

    async def ready(_request: Request) -> Response:
        return json_response({"name": identity.model, "ready": True})

    async def repository(_request: Request) -> Response:
        listed = {"name": identity.model, "version": identity.version, "state": "READY", "reason": ""}
        return json_response([listed])

    async def unloadable(_request: Request) -> Response:
        refusal = {"error": "a slot serves one version; a rollout loads another: perennial deploy MODEL VERSION"}
        return Response(orjson.dumps(refusal), 400, identity_headers, "application/json")

    async def configuration(_request: Request) -> Response:
        return json_response(forms.configuration(reader, identity, runtime.platform, runtime.classes))

    async def metadata(_request: Request) -> Response:
        return json_response(forms.metadata(reader, identity, runtime.platform, runtime.classes))

    async def counters(_request: Request) -> Response:
        page, media_type = metrics.page()
        return Response(page, media_type=media_type)

    versioned = f"{model}/versions/{identity.version}"
    pages = dict.fromkeys(("/v2/health/live", "/v2/health/ready", "/ping", "/health"), live)
    pages |= {f"{m}/ready": ready for m in (model, versioned)}
    pages |= {f"{m}/config": configuration for m in (model, versioned)} | dict.fromkeys((model, versioned), metadata)
    pages |= {"/v2": server, "/v2/": server, "/metrics": counters}
    not_found, not_allowed = _refusals(identity_headers)
    routes = [Route(path, page) for path, page in pages.items()]
    # POST is answered before it comes here; these make other methods a 405.
    posts = [Route(path, not_found, methods=["POST"]) for path in predicting]
    posts += [Route("/v2/repository/index", repository, methods=["POST"])]
    posts += [
        Route(f"/v2/repository/models/{{name}}/{verb}", unloadable, methods=["POST"]) for verb in ("load", "unload")
    ]
    found = Starlette(
        routes=[*routes, *posts, *docs.routes(runtime, identity, settings)],
        exception_handlers={404: not_found, 405: not_allowed},
    )
    # A redirect would name the slot by the Host header, without the model's name that the router takes off.
    found.router.redirect_slashes = False
    return found


def _refusals(identity_headers: dict[str, str]) -> tuple[Any, Any]:
    """The pages for 404 and 405."""

    async def not_found(request: Request, _error: Exception) -> Response:
        body = {"error": f"{request.method} {request.url.path} does not exist; GET /docs lists all paths"}
        return Response(orjson.dumps(body), 404, identity_headers, "application/json")

    async def not_allowed(request: Request, error: Any) -> Response:
        body = {"error": f"{request.url.path} does not allow {request.method}; GET /docs lists the methods"}
        return Response(orjson.dumps(body), 405, {**identity_headers, **(error.headers or {})}, "application/json")

    return not_found, not_allowed
