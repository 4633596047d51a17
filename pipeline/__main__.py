"""`python -m pipeline`, the command line; a stage is handed to the stage server where one runs."""

from __future__ import annotations

import os
import sys

from pipeline.workspaces import stage_server

if __name__ == "__main__":
    try:
        code = stage_server.ask(sys.argv) if sys.argv[1:2] == ["stage"] else None
    except KeyboardInterrupt:
        code = 1
    if code is None:
        from pipeline.cli.commands import main

        code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit: the threads of a native library below us now and then abort while the interpreter takes itself apart,
    # and a stage whose files are all written would count as failed.
    os._exit(code)
