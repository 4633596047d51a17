"""Runs one command: its answer goes to standard output, all else to standard error; a refusal is one line and exit code 1."""

from __future__ import annotations

import json
import math
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from pipeline.cli.arguments import refuse_empty
from pipeline.cli.parser import parser
from pipeline.errors import DataError, PerennialError
from pipeline.settings import logs

# But for the ends of lines, and tabs.
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def main(argv: list[str] | None = None) -> int:
    """The exit code of the command `argv`. Raises SystemExit(2) for wrong usage."""
    words, top = sys.argv[1:] if argv is None else argv, parser()
    refuse_empty(top, words)
    arguments = top.parse_args(words)
    logs.configure("terminal")
    try:
        with _stdout_for_the_answer():
            answer = arguments.call(arguments)
        as_json = getattr(arguments, "json", False)
        text = json.dumps(_finite(answer.values), indent=2, default=str) if as_json else answer.text
        if text:
            say(written(text, sys.stdout.encoding), sys.stdout)
        return answer.exit_code
    except PerennialError as error:
        if not (arguments.command == "stage" and _left_for_the_run(error)):
            print(written(str(error), sys.stderr.encoding), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped by hand; what was live stays live", file=sys.stderr)
        return 1


def written(text: str, encoding: str | None) -> str:
    """The text with a question mark for what a terminal of that encoding cannot show: a frame's line, or what a person typed there, where a
    code that moves the cursor or hides what follows may stand too."""
    encoding = encoding or "utf-8"
    return CONTROL.sub("?", text).encode(encoding, "replace").decode(encoding)


def say(text: str, out: TextIO) -> None:
    """Raises DataError where the text cannot be written, as on a full disk. Who reads no further, as `head` does, has what was asked for."""
    try:
        print(text, file=out, flush=True)
    except OSError as error:
        # So that the rest, which the stream keeps, is not tried again at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
        if not isinstance(error, BrokenPipeError):
            raise DataError("standard output", f"cannot be written ({error.strerror})", "is there room?") from error


def _left_for_the_run(error: PerennialError) -> bool:
    """Whether a run waits for the stage's error, and shows it itself."""
    from pipeline.workspaces.workspace import write_stage_error

    return write_stage_error(error)


@contextmanager
def _stdout_for_the_answer() -> Iterator[None]:
    """Sends what DVC, MLflow and the stages print to standard error, so that a pipe gets the answer alone."""
    sys.stdout.flush()
    stdout = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(stdout, 1)
        os.close(stdout)


def _finite(value: Any) -> Any:
    """JSON has no NaN: a figure that could not be computed is null."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
