"""What the server refuses: packages and requests."""

from __future__ import annotations


class PackageRefused(Exception):
    """A package that must not be served; str() gives the reason in one line."""


class RequestRefused(Exception):
    """A request that gets no predictions: an HTTP status and one line that names the row and the column."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class BadRequest(RequestRefused):
    """A request that breaks the model's contract: status 400."""

    def __init__(self, reason: str) -> None:
        super().__init__(400, reason)


class EndedItsProcess(RequestRefused):
    """A request that ended the process that answered it: status 500, and nobody may try it again."""

    def __init__(self, observed: str) -> None:
        super().__init__(500, f"{observed}, as it may have ended a slot before; it is not sent again")
