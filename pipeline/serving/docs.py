"""The documentation that a slot serves: OpenAPI of its model, and Swagger UI to try it; no other server is needed."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from pipeline.serving.explaining import MOST_ROWS
from pipeline.serving.identity import Identity
from pipeline.serving.runtime import Runtime
from pipeline.serving.schema import Column, Reader, times
from pipeline.serving.settings import Settings
from pipeline.serving.tensors import DATATYPES

PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<link rel="icon" href="data:,"><link rel="stylesheet" href="docs/swagger-ui.css"></head>
<body><div id="swagger-ui"></div><script src="docs/swagger-ui-bundle.js"></script><script src="docs/start.js"></script>
</body></html>"""
# The URL is relative: behind the router the model's name comes before it.
START = """SwaggerUIBundle({url: "openapi.json", dom_id: "#swagger-ui", deepLinking: true, tryItOutEnabled: true});"""
JSON_TYPES: dict[str, dict[str, str]] = {
    "number": {"type": "number"},
    "integer": {"type": "integer"},
    "boolean": {"type": "boolean"},
    "datetime": {"type": "string", "format": "date-time"},
    "text": {"type": "string"},
    "category": {"type": "string"},
}
MEDIA_TYPES = {"swagger-ui.css": "text/css", "swagger-ui-bundle.js": "text/javascript"}
REFUSALS = {
    "400": "the request breaks the contract; `error` names the row and the column",
    "401": "no valid key",
    "408": "the body did not arrive in time",
    "413": "too many bytes or rows",
    "415": "the content encoding is not supported",
    "429": "too many large requests; try again later",
}


def routes(runtime: Runtime, identity: Identity, settings: Settings) -> Sequence[Route]:
    """/docs and /openapi.json."""
    specification = openapi(runtime, identity, settings)

    async def page(_request: Request) -> Response:
        return HTMLResponse(PAGE.format(title=f"{identity.model} version {identity.version}"))

    async def spec(_request: Request) -> Response:
        return JSONResponse(specification)

    async def start(_request: Request) -> Response:
        return Response(START, media_type="text/javascript")

    async def asset(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in MEDIA_TYPES:
            return JSONResponse({"error": f"docs/{name} does not exist"}, 404)
        vendored = files("swagger_ui_bundle") / "vendor"
        (folder,) = [f for f in vendored.iterdir() if f.name.startswith("swagger-ui")]
        return Response((folder / name).read_bytes(), media_type=MEDIA_TYPES[name])

    return [
        Route("/docs", page),
        Route("/openapi.json", spec),
        Route("/docs/start.js", start),
        Route("/docs/{name}", asset),
    ]


def openapi(runtime: Runtime, identity: Identity, settings: Settings) -> dict[str, Any]:
    """OpenAPI 3.0 of one model, for Swagger UI. Its examples come from the contract alone: a golden request is a person's row."""
    reader = runtime.reader
    schemas = {"Row": _row(reader), "Inputs": INPUTS}
    schemas |= {"Invocation": _invocation(settings.max_rows, runtime.background is not None), "Refusal": REFUSAL}
    paths = _paths(runtime, f"/v2/models/{identity.model}")
    specification: dict[str, Any] = {
        "openapi": "3.0.3",
        "info": {"title": identity.model, "version": identity.version} | _answer(runtime),
        "servers": [{"url": "."}],
        "paths": paths,
        "components": {"schemas": schemas},
    }
    if settings.api_keys:
        specification["components"]["securitySchemes"] = {
            "key": {"type": "apiKey", "in": "header", "name": "x-api-key"}
        }
        for methods in paths.values():
            if "post" in methods:
                methods["post"]["security"] = [{"key": []}]
    return specification


def _answer(runtime: Runtime) -> dict[str, str]:
    """What a prediction says; nothing for a package of the time before it said so."""
    said = runtime.manifest.get("answer")
    return {"description": f"A prediction is {said}."} if said else {}


def _paths(runtime: Runtime, model: str) -> dict[str, Any]:
    """The server's URLs; `model` is the model's own in the v2 protocol."""
    record = {field.name: field.example() for field in runtime.reader.fields}
    inputs = [
        {"name": f.name, "datatype": f.datatype, "shape": [1, 1], "data": [record[f.name]]}
        for f in runtime.reader.fields
    ]
    example = {"dataframe_records": [record]}
    explains = runtime.background is not None
    answer = _predictions(runtime.classes, explains)
    by_mlflow = _post("Predict, by MLflow's protocol", "Invocation", example, answer)
    lines = [",".join(record), ",".join(str(value) for value in record.values())]
    by_mlflow["requestBody"]["content"]["text/csv"] = {"schema": {"type": "string"}, "example": "\n".join(lines)}
    paths: dict[str, Any] = {
        "/invocations": {"post": by_mlflow},
        f"{model}/infer": {
            "post": _post(
                f"Predict, by the Open Inference Protocol v2{V2_EXPLAINS * explains}", "Inputs", {"inputs": inputs}, V2
            )
        },
    }
    for path, summary in (
        (model, "The model's inputs and outputs"),
        (f"{model}/ready", "Whether the model is ready"),
        (f"{model}/config", "The model's configuration, as Triton describes it"),
        ("/v2", "The server"),
        ("/v2/health/live", "Whether the server is live"),
        ("/v2/health/ready", "Whether the server is ready"),
    ):
        paths[path] = {"get": {"summary": summary, "responses": {"200": _response(summary, {"type": "object"})}}}
    paths["/metrics"] = {"get": {"summary": "Counters for Prometheus", "responses": {"200": {"description": "text"}}}}
    return paths


def _row(reader: Reader) -> dict[str, Any]:
    text: dict[str, Any] = {"type": "string", "nullable": True}
    time: dict[str, Any] = {**text, "description": f"a time like {times.FORMS}"}
    if reader.ages:
        time["description"] += (
            f"; the age of {reader.ages.of} is counted to it, and without it to the request's receipt"
        )
    if unit := reader.schema.epoch:
        time = {
            "anyOf": [{"type": "string"}, {"type": "number"}],
            "nullable": True,
            "description": f"a number of {unit} since 1970-01-01 UTC, or {time['description']}",
        }
    logged = {name: kind for name, kind in ((reader.key, text), (reader.event_time, time)) if name}
    return {
        "type": "object",
        "properties": {f.name: _column(f) for f in reader.fields} | logged,
        "required": [f.name for f in reader.fields],
        "additionalProperties": False,
    }


def _column(field: Column) -> dict[str, Any]:
    schema: dict[str, Any] = {**JSON_TYPES[field.kind], "nullable": field.nullable}
    schema |= {name: bound for name, bound in (("minimum", field.min), ("maximum", field.max)) if bound is not None}
    if field.allowed:
        schema["enum"] = [*field.allowed, *([None] if field.nullable else [])]
    return schema


def _invocation(max_rows: int, explains: bool) -> dict[str, Any]:
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
    beside = {"explain": EXPLAIN} if explains else {}
    return {
        "oneOf": [{"type": "object", "properties": {n: form, **beside}, "required": [n]} for n, form in forms.items()],
    }


def _post(summary: str, body: str, example: Any, answer: dict[str, Any]) -> dict[str, Any]:
    refusals = {code: _response(reason, {"$ref": "#/components/schemas/Refusal"}) for code, reason in REFUSALS.items()}
    schema = {"$ref": f"#/components/schemas/{body}"}
    return {
        "summary": summary,
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema, "example": example}}},
        "responses": {"200": _response("predictions", answer), **refusals},
    }


def _predictions(classes: Sequence[str], explains: bool) -> dict[str, Any]:
    """A number for each row; for classes an object with the probability of each. With explanations, where they are asked for."""
    number: dict[str, Any] = {"type": "number"}
    row = {"type": "object", "properties": dict.fromkeys(classes, number), "required": list(classes)}
    listed = {"type": "array", "items": row if classes else number}
    explained = {"explanations": {"type": "array", "items": _explanation(classes)}} if explains else {}
    return {"type": "object", "properties": {"predictions": listed, **explained}, "required": ["predictions"]}


def _explanation(classes: Sequence[str]) -> dict[str, Any]:
    number: dict[str, Any] = {"type": "number"}
    effects = {"type": "object", "additionalProperties": number}
    properties = {"base": number, "effects": effects} | ({"class": {"type": "string"}} if classes else {})
    about = "base and effects add up to the prediction, of classes to that of `class`, the likeliest one"
    return {"type": "object", "description": about, "properties": properties}


def _response(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


EXPLAIN = {
    "type": "boolean",
    "description": f"also say by how much each column moved each prediction, for at most {MOST_ROWS} rows; in a body with JSON",
}
V2_EXPLAINS = "; with the parameter `explain: true` of the request, also by how much each column moved it"
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
                    "datatype": {"enum": list(DATATYPES)},
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
