"""What arguments of commands are, as their texts say."""

from __future__ import annotations

import argparse


def count(text: str) -> int:
    """A number of things that are shown, 0 for all. Raises argparse.ArgumentTypeError."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number; write it like 1000")
    return int(text)
