"""`perennial` and `python -m pipeline`, the command line. Hands a stage to the stage server where one runs."""

from __future__ import annotations

import gc
import os
import sys
from typing import NoReturn

from pipeline.workspaces import stage_server


def main() -> NoReturn:
    """Ends the process with the command's exit code."""
    try:
        code = stage_server.ask(sys.argv) if sys.argv[1:2] == ["stage"] else None
    except KeyboardInterrupt:
        code = 1
    if code is None:
        gc.set_threshold(stage_server.LOOK_EVERY)
        from pipeline.cli.main import main as run

        code = run()
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit: while the interpreter shuts down, the threads of a native library sometimes abort the process, and a
    # stage with all its files written would count as failed.
    os._exit(code)


if __name__ == "__main__":
    main()
