"""Faults of a source, by kind and by the columns of the flights that they befall."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

Fault = Callable[[pd.DataFrame], pd.DataFrame]
NUMERIC = ["distance", "departure_hour", "scheduled_min", "temp", "dewp", "humid"]
NUMERIC += ["wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib"]
CATEGORICAL = ["carrier", "origin", "dest"]
SWAPPED = [("temp", "dewp"), ("temp", "humid"), ("dewp", "humid"), ("wind_speed", "wind_gust")]
SWAPPED += [("distance", "scheduled_min"), ("wind_dir", "pressure")]
SWAPPED += [("carrier", "origin"), ("origin", "dest"), ("carrier", "dest")]
# What no single feature shows in all weeks: both temperatures of a summer in Celsius are a winter's in Fahrenheit.
TOGETHER = [("swapped", "temp and humid"), ("F as C", "temp and dewp")]


def by_kind() -> dict[str, dict[str, Fault]]:
    """The faults of each kind, by the columns."""
    return {
        "times 60": {name: _number(name, lambda x: x * 60) for name in NUMERIC},
        "F as C": {**{name: _number(name, _celsius) for name in ("temp", "dewp")}, "temp and dewp": _both_celsius},
        "C as F": {name: _number(name, lambda x: x * 1.8 + 32) for name in ("temp", "dewp")},
        "swapped": {f"{first} and {second}": _swap(first, second) for first, second in SWAPPED},
        "all nulls": {name: _nulls(name) for name in [*NUMERIC, *CATEGORICAL]},
        "category renamed": {name: _renamed(name) for name in CATEGORICAL},
        "clock an hour off": {"departure_hour": _number("departure_hour", lambda x: (x + 1) % 24)},
    }


def _celsius(fahrenheit: pd.Series) -> pd.Series:
    return (fahrenheit - 32) / 1.8


def _both_celsius(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(temp=_celsius(rows["temp"]), dewp=_celsius(rows["dewp"]))


def _number(name: str, change: Callable[[pd.Series], pd.Series]) -> Fault:
    return lambda rows: rows.assign(**{name: change(rows[name])})


def _swap(first: str, second: str) -> Fault:
    return lambda rows: rows.assign(**{first: rows[second], second: rows[first]})


def _nulls(name: str) -> Fault:
    return lambda rows: rows.assign(**{name: np.nan if name in NUMERIC else None})


def _renamed(name: str) -> Fault:
    """The most frequent value has another name."""
    return lambda rows: rows.assign(**{name: rows[name].replace(rows[name].mode()[0], "another name")})
