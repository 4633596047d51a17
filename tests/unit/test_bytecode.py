"""Bytecode of the project serves its copies, and never for another source."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from pipeline.workspaces import bytecode


def test_copies_take_it_for_the_modules_that_are_the_same(tmp_path):
    """A copy gets that of the same module whatever its time, and none of one that is new, or differs in as many bytes."""
    project, copy = tmp_path / "project", tmp_path / "copy"
    for folder in (project, copy):
        for name in ("same", "edited", "by_time"):
            _module(folder, name, "x = 1\n")
    bytecode.write(project)
    _module(copy, "edited", "x = 2\n")
    _module(copy, "new", "x = 3\n")
    os.utime(copy / "pipeline/inner/same.py", (1, 1))
    by_time = _compiled(project, "by_time")
    by_time.write_bytes(by_time.read_bytes()[:4] + bytes(4) + by_time.read_bytes()[8:])
    bytecode.share(project, copy)
    assert [name for name in ("same", "edited", "by_time", "new") if _compiled(copy, name).exists()] == ["same"]
    assert _compiled(copy, "same").read_bytes() == _compiled(project, "same").read_bytes()


def test_an_edited_module_is_compiled_again(tmp_path):
    """Writing it again renews the bytecode of an edited module, also when its time and its length stayed."""
    _module(tmp_path, "edited", "x = 1\n")
    bytecode.write(tmp_path)
    before = _compiled(tmp_path, "edited").read_bytes()
    _module(tmp_path, "edited", "x = 2\n")
    bytecode.write(tmp_path)
    assert _compiled(tmp_path, "edited").read_bytes() != before


def _module(folder: Path, name: str, text: str) -> None:
    source = folder / "pipeline" / "inner" / f"{name}.py"
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_text(text)
    os.utime(source, (1_700_000_000, 1_700_000_000))


def _compiled(folder: Path, name: str) -> Path:
    return Path(importlib.util.cache_from_source(str(folder / "pipeline" / "inner" / f"{name}.py")))
