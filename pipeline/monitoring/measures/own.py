"""A team's own drift measures: classes that `monitor.measures` names as `module:Class`, in files of the project.

Each is a `Measure` as ours are, and is made without arguments. What is wrong with one is said by its name, and never a calm verdict.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from pipeline.data.user_code import hook_function
from pipeline.errors import SettingsError
from pipeline.monitoring.measures.base import Measure
from pipeline.monitoring.profiles.layout import ColumnLayout


def own_measures(hooks: Sequence[str], root: Path, taken: Collection[str]) -> tuple[Measure, ...]:
    """The measures that the project in `root` names, in their order. Raises SettingsError for one that is none, or whose name is `taken`."""
    if hooks and str(root) not in sys.path:
        sys.path.insert(0, str(root))
    found: list[Measure] = []
    for hook in hooks:
        made = hook_function(hook)
        if not (isinstance(made, type) and issubclass(made, Measure)):
            raise _refused(hook, f"must be a class of Measure; got {made!r}", "see docs/own-measure.md")
        try:
            measure = made()
        except Exception as error:
            raise _refused(hook, f"cannot be made: {error}", "give it an __init__ without arguments") from error
        name = getattr(measure, "name", "")
        if not isinstance(name, str) or not name or name in [*taken, *(other.name for other in found)]:
            raise _refused(hook, f"its name is {name!r}", "give it a name of its own")
        found.append(measure)
    return tuple(found)


def checked_distance(measure: Measure, column: ColumnLayout, before: np.ndarray, now: np.ndarray) -> np.ndarray:
    """What a team's measure says. Raises SettingsError for an error in it, and for distances that no limit can be made of."""
    subject = f"{measure.name} of {column.name}"
    try:
        found = np.asarray(measure.distance(column, before, now), dtype=np.float64)
    except Exception as error:
        raise _refused(subject, f"{type(error).__name__}: {error}", "correct its distance") from error
    shape = np.broadcast_shapes(before.shape, now.shape)[:-1]
    if found.shape != shape:
        raise _refused(subject, f"its distances have the shape {found.shape}, not {shape}", "sum over the last axis")
    if not np.isfinite(found).all() or (found < 0).any():
        raise _refused(subject, "a distance is negative, infinite or none", "return a number of 0 or more")
    return found


def _refused(subject: str, observed: str, advice: str) -> SettingsError:
    return SettingsError(f"monitor.measures {subject}", observed.splitlines()[0][:200], advice)
