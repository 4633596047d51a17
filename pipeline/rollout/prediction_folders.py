"""Where the slots of a model write their predictions."""

from __future__ import annotations

from pathlib import Path


def predictions_folder(home: Path, model: str, shadow: bool = False) -> Path:
    """The folder of the slots' prediction logs; a shadow's is apart, because users do not get its answers."""
    folder = home / "predictions" / model
    return folder / "shadow" if shadow else folder
