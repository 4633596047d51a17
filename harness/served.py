"""`python harness/served.py ARGV…` is `python -m pipeline ARGV…` in a fork of the tests' stage server, which has imported its libraries.

The project's own code is run, that of the current folder, as it is then.
"""

from __future__ import annotations

import os
import sys


def main() -> None:
    # As `python -m` does.
    sys.path[0] = os.getcwd()
    from pipeline.workspaces import stage_server

    code = stage_server.ask(sys.argv)
    if code is None:
        sys.exit(f"{sys.argv[1:]}: no stage server answers; tests/conftest.py starts one")
    os._exit(code)


if __name__ == "__main__":
    main()
