"""Where the slots of a model write their predictions."""

from __future__ import annotations

from pathlib import Path

# The folder of a home that has one for each model.
PREDICTIONS = "predictions"


def predictions_folder(home: Path, model: str, shadow: bool = False) -> Path:
    """The folder of the slots' prediction logs; a shadow's is apart, because users do not get its answers."""
    folder = home / PREDICTIONS / model
    return folder / "shadow" if shadow else folder
