"""What the server refuses, and why."""

from __future__ import annotations


class PackageRefused(Exception):
    """A package that may not be served; str() says why in one line."""


class Refused(Exception):
    """A request that is not answered: an HTTP status and one line that names the field and the row."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class BadRequest(Refused):
    """A request that does not keep the model's contract."""

    def __init__(self, why: str) -> None:
        super().__init__(400, why)
