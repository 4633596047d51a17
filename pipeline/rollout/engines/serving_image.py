"""The packages that go into a serving image: those of its list, less what a server never reads."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from pipeline.errors import RolloutError
from pipeline.rollout.engines import elf

# Of those packages, what a server never reads: tests, tools to make models, sources and maps, and what only such tools
# import. onnxruntime's Python module holds the runtime itself; the library beside it is for programs in C.
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
# scipy, for one, looks for it.
LEFT_OUT_OF: dict[str, tuple[str, ...]] = {"onnx": ("numpy/f2py",), "skops": ()}


def lay(requirements: Path, folder: Path, runtime: str) -> None:
    """Installs the server's packages into `folder` for the image's Python 3.11, whatever Python this is, but for the
    files that its server never reads. Raises RolloutError."""
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
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RolloutError(
            "serving packages",
            done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "uv failed",
            "check the way to the package index",
        )
    for left in [path for pattern in (*LEFT_OUT, *LEFT_OUT_OF[runtime]) for path in folder.glob(pattern)]:
        if left.is_dir():
            shutil.rmtree(left)
        else:
            left.unlink(missing_ok=True)
    for library in folder.rglob("*.so*"):
        elf.cut_debug(library)
