"""What a serving image is made of: the server's code, its packages by their hashes, and how they are put together.

The same files serve in the process engine, so their digest names what answers in either.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from pipeline.errors import RolloutError
from pipeline.rollout.engines.base import EngineSettings

# The requirements of each runtime's image.
PACKAGES = {"onnx": "serving.txt", "skops": "serving-skops.txt"}
# The code that builds the image decides what is left out of it.
BUILDERS = ("elf.py", "serving_image.py", "docker_images.py")


def recipe(project: Path, runtime: str) -> list[Path]:
    """The Dockerfile and the hashed list of packages."""
    return [project / "docker" / "serving" / "Dockerfile", project / "requirements" / PACKAGES[runtime]]


def server(project: Path) -> list[Path]:
    """The server's code."""
    return [project / "pipeline" / "__init__.py", *sorted((project / "pipeline" / "serving").rglob("*.py"))]


def recipe_digest(project: Path, runtime: str) -> str:
    """sha256, in hex. Raises OSError when a file is missing."""
    builders = [Path(__file__).with_name(name) for name in BUILDERS]
    content = b"".join(path.read_bytes() for path in (*recipe(project, runtime), *server(project), *builders))
    return hashlib.sha256(content).hexdigest()


def pinned(runtime: str, pins: str) -> str:
    """The digest in `pins`, which are like `onnx=sha256:…,skops=sha256:…`; '' when they name none."""
    return dict(pin.split("=", 1) for pin in pins.split(",") if "=" in pin).get(runtime, "")


def image_digest(settings: EngineSettings, runtime: str) -> str:
    """What identifies the serving image of a runtime here: the pinned digest, else its recipe's. Raises RolloutError."""
    if settings.serving_images:
        return pinned(runtime, settings.serving_images)
    try:
        return f"sha256:{recipe_digest(settings.project, runtime)}"
    except (OSError, KeyError) as error:
        raise RolloutError(
            f"serving image for {runtime}", f"its recipe cannot be read ({error})", "put it back"
        ) from error
