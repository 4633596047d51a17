"""A user's own code: a source or an estimator that params.yaml names as `module:function`.

dvc.yaml cannot list its files, which differ from model to model. So each snapshot lists them with their digests, and every
later stage depends on that list: after a change of the code, a run and `dvc repro` train again.
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


def hook_function(hook: str, key: str = "hook") -> Callable:
    """The function that `module:function` names; `key` is its settings key. Raises SettingsError when it cannot be imported."""
    module, _, function = hook.partition(":")
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingsError(
            f"{key} {hook}", str(error), "write it as module:function, importable from the project's folder"
        ) from error
    except (Exception, SystemExit) as error:
        # A user's code may do anything as it is imported; a SyntaxError says the line.
        what = next(iter(str(error).strip().splitlines()), "no message")
        raise SettingsError(
            f"{key} {hook}",
            f"raised {type(error).__name__} when it was imported: {what}",
            "import it in a Python shell",
        ) from error


def own_code(model: Model, root: Path) -> dict[str, str]:
    """{path: sha256} of the files below `root` that the model's hooks import, without installed packages and the stages' own
    code. Empty for a model without hooks."""
    hooks = [hook for hook in (model.source.hook, model.training.estimator) if hook and ":" in hook]
    if not hooks:
        return {}
    for hook in hooks:
        hook_function(hook)
    root = root.resolve()
    loaded = [(name, getattr(module, "__file__", None)) for name, module in list(sys.modules.items())]
    files = {Path(file).resolve() for name, file in loaded if file and name.partition(".")[0] not in (OURS, "__main__")}
    own = sorted(file for file in files if file.is_relative_to(root) and not _installed(file) and file.is_file())
    return {str(file.relative_to(root)): hashlib.sha256(file.read_bytes()).hexdigest() for file in own}


def _installed(file: Path) -> bool:
    """Whether the file is in a Python environment, which may be below the project; requirements/main.txt pins its packages."""
    return file.is_relative_to(Path(sys.prefix).resolve()) or "site-packages" in file.parts
