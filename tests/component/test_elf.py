"""A library without its debug information is smaller and runs as before."""

import shutil
import subprocess
import sys
from pathlib import Path

import uvloop

from pipeline.rollout.engines.elf import cut_debug

RUN = "import asyncio, uvloop; print(uvloop.__file__, uvloop.run(asyncio.sleep(0, 'ran')))"


def test_a_cut_library_is_much_smaller_and_runs(tmp_path):
    """A library without its debug sections is less than half as large and still loads."""
    package = shutil.copytree(Path(uvloop.__file__).parent, tmp_path / "uvloop")
    (library,) = package.glob("loop.*.so")
    before = library.stat().st_size
    assert cut_debug(library) == before - library.stat().st_size > before / 2
    done = subprocess.run([sys.executable, "-c", RUN], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(package / "__init__.py"), "ran"]
    assert cut_debug(library) == 0


def test_what_is_no_library_is_left_alone(tmp_path):
    """A file that is no ELF library is not changed."""
    script = tmp_path / "libfake.so"
    script.write_text("INPUT(libreal.so)")
    assert cut_debug(script) == 0
    assert script.read_text() == "INPUT(libreal.so)"
