"""What the server refuses: packages and requests."""

from __future__ import annotations


class PackageRefused(Exception):
    """A package that must not be served; str() gives the reason in one line."""


# Why a request gets no predictions, a word each. What is counted by them, and named in metrics, is bounded.
KINDS = {
    "key": "no valid key",
    "form": "a body that is none of the protocols'",
    "columns": "a column that is missing, unknown or given twice",
    "value": "a value that cannot be read as its column's",
    "rule": "a value that breaks a rule of the contract",
    "size": "too large",
    "busy": "too much at once",
    "slow": "the body did not arrive in time",
    "encoding": "a content type or encoding that is not taken",
    "server": "the server failed",
    "other": "another reason",
}
OF_STATUS = {401: "key", 408: "slow", 413: "size", 415: "encoding", 429: "busy", 500: "server", 503: "server"}


class RequestRefused(Exception):
    """A request that gets no predictions: an HTTP status, one line that names the row and the column, and its `kind`, one of KINDS."""

    def __init__(self, status: int, reason: str, kind: str = "") -> None:
        super().__init__(reason)
        self.status, self.kind = status, kind or OF_STATUS.get(status, "other")


class BadRequest(RequestRefused):
    """A request that breaks the model's contract: status 400."""

    def __init__(self, reason: str, kind: str = "form") -> None:
        super().__init__(400, reason, kind)


class EndedItsProcess(RequestRefused):
    """A request that ended the process that answered it: status 500, and nobody may try it again."""

    def __init__(self, observed: str) -> None:
        super().__init__(500, f"{observed}, as it may have ended a slot before; it is not sent again")
