"""A fitted pipeline as a file: skops, not pickle, in a canonical form, so that equal models are equal files."""

from __future__ import annotations

import io
import json
import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import SettingsError, StageError
from pipeline.serving.trusted import TRUSTED_TYPES
from pipeline.training.estimators import boosters

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator

# Beside what a slot builds from skops, what ONNX serves.
TRUSTED = [*TRUSTED_TYPES, *boosters.TRUSTED]


def save(estimator: BaseEstimator, path: Path) -> None:
    """Writes the fitted pipeline as canonical skops. Raises StageError for one that `load` would refuse."""
    import skops.io

    dumped = skops.io.dumps(estimator)
    if untrusted := _untrusted(dumped):
        raise StageError(
            "train",
            f"the model holds {', '.join(untrusted)}, which skops does not load without unpickling",
            "choose another estimator",
        )
    path.write_bytes(canonical(dumped))


def refuse_unreadable(unfitted: BaseEstimator, hook: str) -> None:
    """Raises SettingsError for what a hook returned when `save` would refuse it: before a fit, which may take hours.

    A type of scikit-learn is left to `save`: the fit may drop it, as it drops the folds of our encodings.
    """
    import skops.io

    try:
        found = _untrusted(skops.io.dumps(unfitted))
        untrusted = ", ".join(name for name in found if not name.startswith("sklearn."))
    except Exception as error:
        # What it cannot write at all, it says in exceptions of many kinds.
        untrusted = f"a part that cannot be saved ({next(iter(str(error).splitlines()), '')[:200]})"
    if untrusted:
        raise SettingsError(
            f"hook {hook}",
            f"returned {untrusted}, which skops does not load without unpickling",
            "make it of the classes of scikit-learn, XGBoost or LightGBM",
        )


def _untrusted(dumped: bytes) -> list[str]:
    import skops.io

    return sorted(set(skops.io.get_untrusted_types(data=dumped)) - set(TRUSTED))


def load(path: Path) -> BaseEstimator:
    """Reads a fitted pipeline; only the types in TRUSTED are built."""
    import skops.io

    return skops.io.load(path, trusted=TRUSTED)


def canonical(dumped: bytes) -> bytes:
    """The same skops file without the parts that differ between two dumps of equal models.

    skops numbers objects by their address in memory and stamps the files with the time. The canonical file numbers them in
    order of appearance and stamps all files with 1980.
    """
    with zipfile.ZipFile(io.BytesIO(dumped)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    schema = files.pop("schema.json").decode()
    # Bytes, such as XGBoost's model, have names that are drawn at random.
    drawn = dict.fromkeys(re.findall(r'"([0-9a-f-]{36}\.bin)"', schema))
    for number, name in enumerate(drawn):
        schema = schema.replace(name, f"bytes-{number}.bin")
        files[f"bytes-{number}.bin"] = files.pop(name)
    order: dict[str, str] = {}
    for number in re.findall(r'"__id__": (\d+)|"(\d+)\.npy"|"(\d+)\.npz"', schema):
        order.setdefault(next(filter(None, number)), str(len(order) + 1))
    schema = re.sub(r'("__id__": )(\d+)', lambda m: m[1] + order[m[2]], schema)
    schema = re.sub(r'"(\d+)(\.np[yz])"', lambda m: f'"{order[m[1]]}{m[2]}"', schema)
    renamed = {re.sub(r"^(\d+)(?=\.np[yz]$)", lambda m: order.get(m[1], m[1]), n): c for n, c in files.items()}
    renamed["schema.json"] = json.dumps(json.loads(schema), sort_keys=True).encode()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(renamed):
            archive.writestr(zipfile.ZipInfo(name), renamed[name], zipfile.ZIP_DEFLATED)
    return out.getvalue()
