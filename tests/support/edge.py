"""A Python with onnxruntime and numpy alone, and an export that it serves."""

from __future__ import annotations

import subprocess
import venv
from pathlib import Path
from typing import Self

import numpy as np
import onnxruntime

from pipeline.settings.net import free_port


def bare_python(folder: Path) -> Path:
    """The program of a new environment, without pip and without any other package."""
    venv.create(folder, symlinks=True)
    packages = next((folder / "lib").glob("python*/site-packages"))
    for package in (np, onnxruntime):
        held = Path(str(package.__file__)).parent
        for path in (held, held.with_name(f"{held.name}.libs")):
            if path.exists():
                (packages / path.name).symlink_to(path)
    program = folder / "bin" / "python"
    for other in ("orjson", "nacl", "duckdb", "pipeline"):
        alone = subprocess.run([program, "-c", f"import {other}"], capture_output=True, check=False, cwd=folder, env={})
        assert alone.returncode, f"{other} is there too"
    return program


class Runner:
    """serve.py of an export, in a Python."""

    def __init__(self, python: Path, folder: Path, *more: str) -> None:
        port = free_port()
        self.address = f"http://127.0.0.1:{port}"
        command = [python, folder / "serve.py", "--port", str(port), *more]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.terminate()
        self.process.communicate(timeout=60)

    def says(self, text: str) -> str:
        """Waits for the line that has `text`."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if text in line:
                return line
        raise AssertionError(f"the runner ended with {self.process.wait()} before it said {text!r}")
