"""Requests as bytes, as they go over a socket."""

from __future__ import annotations

from harness.project import BODY


def request(
    name: str, body: bytes = BODY, *headers: str, path: str = "/invocations", http: str = "1.1", method: str = "POST"
) -> bytes:
    """A request that carries `name` as its x-request-id."""
    lines = [f"{method} {path} HTTP/{http}", "host: x", f"x-request-id: {name}", *headers]
    if method == "POST" and not any(header.startswith("transfer-encoding") for header in headers):
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + (body if method == "POST" else b"")
