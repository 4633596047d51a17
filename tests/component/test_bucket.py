"""Our middlewares of Traefik are written in Go, and their tests are too (docker/router)."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from harness.project import ROOT
from tests.support.required import skip_or_fail


@pytest.mark.parametrize("plugin", ["bucket", "guard"])
def test_the_tests_of_the_go_code_pass(plugin):
    """`go test` passes; without Go on the machine the test skips, unless $PERENNIAL_REQUIRE names go."""
    go = shutil.which("go")
    if go is None:
        skip_or_fail("go", "no go is on the PATH; Debian's package is golang-go")
    # Neither a toolchain nor a module is downloaded: the code has no dependency.
    env = os.environ | {"GOTOOLCHAIN": "local", "GOPROXY": "off", "GOFLAGS": "-count=1"}
    result = subprocess.run(
        [go, "test", "./..."], cwd=ROOT / "docker/router" / plugin, env=env, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.startswith("ok "), "no test ran"
