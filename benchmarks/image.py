"""The size of the serving image's packages with debug information and without it: the purpose of engines/elf.py."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from unittest import mock

from benchmarks.limits import within_limit
from pipeline.rollout.engines import elf, serving_image
from pipeline.settings.environment import Environment

SHOWN = 5


def main() -> bool:
    within = True
    for runtime, requirements in {"onnx": "serving.txt", "skops": "serving-skops.txt"}.items():
        with tempfile.TemporaryDirectory() as folder:
            whole, cut, stripped = (Path(folder) / name for name in ("whole", "cut", "stripped"))
            with mock.patch.object(elf, "cut_debug"):
                serving_image.install_packages(
                    Environment.read().project / "requirements" / requirements, whole, runtime
                )
            shutil.copytree(whole, cut)
            saved = {library.name: elf.cut_debug(library) for library in cut.rglob("*.so*")}
            print(f"{runtime}: {_megabytes(whole):.1f} MB as the wheels have them, {_megabytes(cut):.1f} MB cut")
            for name, size in sorted(saved.items(), key=lambda library: -library[1])[:SHOWN]:
                print(f"  {name}: {size / 1e6:.1f} MB less")
            if shutil.which("strip"):
                shutil.copytree(whole, stripped)
                for library in stripped.rglob("*.so*"):
                    subprocess.run(["strip", "--strip-unneeded", library], stderr=subprocess.DEVNULL, check=False)
                print(f"  {_megabytes(stripped):.1f} MB by strip, which binutils brings")
        within &= within_limit(
            f"{runtime}: MB that cutting saves in each image", sum(saved.values()) / 1e6, 15, at_least=True
        )
    return within


def _megabytes(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6
