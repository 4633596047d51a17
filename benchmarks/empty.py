"""The cost of the framework: a Starlette application that answers a POST with a constant, on our server's uvicorn settings."""

from __future__ import annotations

import sys

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

CONSTANT = b'{"predictions":[0.123456789]}'


async def answer(_request: Request) -> Response:
    return Response(CONSTANT, media_type="application/json")


if __name__ == "__main__":
    uvicorn.run(
        Starlette(routes=[Route("/invocations", answer, methods=["POST"]), Route("/ready", answer)]),
        port=int(sys.argv[1]),
        log_level="warning",
        access_log=False,
        server_header=False,
        lifespan="off",
        timeout_keep_alive=75,
    )
