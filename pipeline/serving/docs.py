"""The documentation that a slot carries: OpenAPI of its own model, and Swagger UI to try it, without any other server."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from pipeline.serving.identity import Identity
from pipeline.serving.runtime import Runtime
from pipeline.serving.settings import Settings
from pipeline.serving.signature import Field

PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<link rel="icon" href="data:,"><link rel="stylesheet" href="docs/swagger-ui.css"></head>
<body><div id="swagger-ui"></div><script src="docs/swagger-ui-bundle.js"></script><script src="docs/start.js"></script>
</body></html>"""
# Addresses are relative: behind the router the model's name comes before them.
START = """SwaggerUIBundle({url: "openapi.json", dom_id: "#swagger-ui", deepLinking: true, tryItOutEnabled: true});"""
KINDS = {"swagger-ui.css": "text/css", "swagger-ui-bundle.js": "text/javascript"}
REFUSALS = {
    "400": "the request does not keep the contract; `error` names the row and the column",
    "401": "a key is wanted",
    "408": "the body did not come in time",
    "413": "too many bytes or rows",
    "415": "packed in a way that is not known",
    "429": "too much at once, try again",
}


def routes(runtime: Runtime, identity: Identity, settings: Settings) -> Sequence[Route]:
    """/docs and /openapi.json."""
    told = openapi(runtime, identity, settings)

    async def page(_request: Request) -> Response:
        return HTMLResponse(PAGE.format(title=f"{identity.model} version {identity.version}"))

    async def spec(_request: Request) -> Response:
        return JSONResponse(told)

    async def start(_request: Request) -> Response:
        return Response(START, media_type="text/javascript")

    async def asset(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in KINDS:
            return JSONResponse({"error": f"docs/{name} is not here"}, 404)
        vendored = files("swagger_ui_bundle") / "vendor"
        (folder,) = [f for f in vendored.iterdir() if f.name.startswith("swagger-ui")]
        return Response((folder / name).read_bytes(), media_type=KINDS[name])

    return [
        Route("/docs", page),
        Route("/openapi.json", spec),
        Route("/docs/start.js", start),
        Route("/docs/{name}", asset),
    ]


def openapi(runtime: Runtime, identity: Identity, settings: Settings) -> dict[str, Any]:
    """OpenAPI 3.0 of one model: what Swagger UI reads. Its examples are requests that evaluation has asked."""
    signature = runtime.signature
    records = json.loads(runtime.golden)["request"]["dataframe_records"][:1]
    asked, model = {"dataframe_records": records}, f"/v2/models/{identity.model}"
    inputs = [
        {"name": f.name, "datatype": "FP32" if f.number else "BYTES", "shape": [1, 1], "data": [records[0][f.name]]}
        for f in signature.fields
    ]
    schemas = {"Row": _row(signature.fields, [signature.key, signature.event_time]), "Inputs": INPUTS}
    schemas |= {"Invocation": _invocation(settings.max_rows), "Refusal": REFUSAL}
    paths: dict[str, Any] = {
        "/invocations": {"post": _post("Predict, as MLflow asks", "Invocation", asked, PREDICTIONS)},
        f"{model}/infer": {
            "post": _post("Predict, by the Open Inference Protocol v2", "Inputs", {"inputs": inputs}, V2)
        },
    }
    for path, about in (
        (model, "The model's inputs and outputs"),
        (f"{model}/ready", "Whether the model answers"),
        ("/v2", "The server"),
        ("/v2/health/live", "Whether the server lives"),
        ("/v2/health/ready", "Whether the server answers"),
    ):
        paths[path] = {"get": {"summary": about, "responses": {"200": _answer(about, {"type": "object"})}}}
    paths["/metrics"] = {"get": {"summary": "Counters for Prometheus", "responses": {"200": {"description": "text"}}}}
    told: dict[str, Any] = {
        "openapi": "3.0.3",
        "info": {"title": identity.model, "version": identity.version},
        "servers": [{"url": "."}],
        "paths": paths,
        "components": {"schemas": schemas},
    }
    if settings.api_keys:
        told["components"]["securitySchemes"] = {"key": {"type": "apiKey", "in": "header", "name": "x-api-key"}}
        for path in ("/invocations", f"{model}/infer"):
            paths[path]["post"]["security"] = [{"key": []}]
    return told


def _row(fields: Sequence[Field], carried: Sequence[str]) -> dict[str, Any]:
    properties = {f.name: _column(f) for f in fields} | {name: {"type": "string", "nullable": True} for name in carried}
    return {
        "type": "object",
        "properties": properties,
        "required": [f.name for f in fields],
        "additionalProperties": False,
    }


def _column(field: Field) -> dict[str, Any]:
    kind = ("integer" if field.integer else "number") if field.number else "string"
    told: dict[str, Any] = {"type": kind, "nullable": field.nullable}
    if field.allowed:
        told["enum"] = [*field.allowed, *([None] if field.nullable else [])]
    return told


def _invocation(max_rows: int) -> dict[str, Any]:
    rows = {"type": "array", "minItems": 1, "maxItems": max_rows, "items": {"$ref": "#/components/schemas/Row"}}
    table = {
        "type": "object",
        "properties": {
            "columns": {"type": "array", "items": {"type": "string"}},
            "data": {"type": "array", "minItems": 1, "maxItems": max_rows, "items": {"type": "array", "items": {}}},
        },
        "required": ["columns", "data"],
    }
    columns = {"type": "object", "additionalProperties": {"type": "array", "items": {}}}
    forms = {"dataframe_records": rows, "instances": rows, "dataframe_split": table, "inputs": columns}
    return {
        "oneOf": [{"type": "object", "properties": {n: form}, "required": [n]} for n, form in forms.items()],
    }


def _post(about: str, body: str, example: Any, answer: dict[str, Any]) -> dict[str, Any]:
    refused = {code: _answer(why, {"$ref": "#/components/schemas/Refusal"}) for code, why in REFUSALS.items()}
    schema = {"$ref": f"#/components/schemas/{body}"}
    return {
        "summary": about,
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema, "example": example}}},
        "responses": {"200": _answer("predictions", answer), **refused},
    }


def _answer(about: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": about, "content": {"application/json": {"schema": schema}}}


NUMBERS = {"type": "array", "items": {"type": "number"}}
PREDICTIONS = {"type": "object", "properties": {"predictions": NUMBERS}, "required": ["predictions"]}
REFUSAL = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
INPUTS = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": "string"},
        "inputs": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["name", "shape", "datatype", "data"],
                "properties": {
                    "name": {"type": "string"},
                    "datatype": {"enum": ["FP32", "FP64", "INT32", "INT64", "BYTES"]},
                    "shape": {"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 2},
                    "data": {"type": "array", "items": {}},
                },
            },
        },
    },
}
V2 = {
    "type": "object",
    "required": ["model_name", "outputs"],
    "properties": {
        "model_name": {"type": "string"},
        "model_version": {"type": "string"},
        "outputs": {"type": "array", "items": {}},
    },
}
