"""What `$PERENNIAL_REQUIRE` asks for, as words with commas between: tools that must be there, and `exhaustive` for the long walks in full."""

from __future__ import annotations

import os

import pytest

REQUIRED = set(filter(None, os.environ.get("PERENNIAL_REQUIRE", "").split(",")))
EXHAUSTIVE = "exhaustive" in REQUIRED


def skip_or_fail(what: str, reason: str) -> None:
    """Skips with its reason, or fails where $PERENNIAL_REQUIRE names `what`."""
    if what in REQUIRED:
        pytest.fail(f"{what} is required here, but {reason}")
    pytest.skip(f"{what}: {reason}")
