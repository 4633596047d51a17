"""The packages of a serving image: those of its requirements, without the files that a server never reads."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from pipeline.errors import RolloutError
from pipeline.rollout.engines import elf

# Files that a server never reads: tests, tools that make models, sources and maps, and what only such tools import.
# onnxruntime's Python module holds the runtime itself; the library beside it is for programs in C.
LEFT_OUT = (
    "onnxruntime/capi/libonnxruntime.so*",
    "google",
    "flatbuffers",
    "jinja2",
    "markupsafe",
    "pycparser",
    "numpy/distutils",
    "numpy/_core/_simd.*",
    "numpy/_core/*_tests.*",
    "**/tests",
    "**/*.pyi",
    "**/*.pyx",
    "**/*.pxd",
    "**/*.map",
    "**/*.h",
    "bin",
    "numpy/_core/lib",
    "numpy/random/lib",
    "onnxruntime/transformers",
    "onnxruntime/tools",
    "onnxruntime/quantization",
    "onnxruntime/datasets",
    "swagger_ui_bundle/vendor/*/swagger-ui-es-*",
    "swagger_ui_bundle/vendor/*/swagger-ui.js",
    "swagger_ui_bundle/vendor/*/swagger-ui-standalone-preset.js",
    "uvloop/loop.c",
)
# Left out of one runtime's image only: scipy, which skops needs, looks for numpy.f2py.
LEFT_OUT_OF: dict[str, tuple[str, ...]] = {"onnx": ("numpy/f2py",), "skops": ()}


def install_packages(requirements: Path, folder: Path, runtime: str) -> None:
    """Installs the server's packages into `folder` for the image's Python 3.11, whatever Python this is, without the files
    that the server never reads. Raises RolloutError."""
    command = [
        sys.executable,
        "-m",
        "uv",
        "pip",
        "install",
        "--quiet",
        "--require-hashes",
        "-r",
        str(requirements),
        "--target",
        str(folder),
        "--python-version",
        "3.11",
        "--python-platform",
        "x86_64-manylinux_2_28",
        "--only-binary",
        ":all:",
        "--link-mode",
        "copy",
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise RolloutError(
            "serving packages",
            result.stderr.strip().splitlines()[-1] if result.stderr.strip() else "uv failed",
            "check that the package index can be reached",
        )
    for unread in [path for pattern in (*LEFT_OUT, *LEFT_OUT_OF[runtime]) for path in folder.glob(pattern)]:
        if unread.is_dir():
            shutil.rmtree(unread)
        else:
            unread.unlink(missing_ok=True)
    for library in folder.rglob("*.so*"):
        elf.cut_debug(library)
