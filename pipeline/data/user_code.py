"""Code of a user's own: a source or an estimator named as `module:function` in params.yaml.

dvc.yaml cannot name its files, which differ from model to model. So each snapshot says which files of the project they
are and what is in them, and every later stage depends on that: with other code a run and `dvc repro` train anew.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Callable
from pathlib import Path

from pipeline.errors import SettingsError
from pipeline.settings.models import Model

OURS = "pipeline"


def hooked(hook: str) -> Callable:
    """The function that `module:function` names. Raises SettingsError when there is none."""
    module, _, function = hook.partition(":")
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingsError(f"hook {hook}", str(error), "write it as module:function, importable here") from error


def own_code(model: Model, root: Path) -> dict[str, str]:
    """sha256 of each file below `root` that the model's hooks import, by path; installed packages and the stages' own
    code are not among them. Empty for a model without hooks."""
    hooks = [named for named in (model.source.hook, model.training.estimator) if named and ":" in named]
    if not hooks:
        return {}
    for hook in hooks:
        hooked(hook)
    root = root.resolve()
    loaded = [(name, getattr(module, "__file__", None)) for name, module in list(sys.modules.items())]
    files = {Path(file).resolve() for name, file in loaded if file and name.partition(".")[0] not in (OURS, "__main__")}
    own = sorted(file for file in files if file.is_relative_to(root) and not _installed(file) and file.is_file())
    return {str(file.relative_to(root)): hashlib.sha256(file.read_bytes()).hexdigest() for file in own}


def _installed(file: Path) -> bool:
    """In an environment, which may well be below the project: requirements/main.txt stands for that."""
    return file.is_relative_to(Path(sys.prefix).resolve()) or "site-packages" in file.parts
