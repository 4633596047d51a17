"""Real tables with real times that packages ship, as files that somebody might have: one for each task, one with texts.

weather   vega-datasets, Seattle by day, 2012 to 2015 (NOAA): five classes of weather from four numbers; dates as 2012/01/01
glucose   bokeh-sampledata, one sensor's current every five minutes and the glucose in the blood, 2010: `nil` where it gave none
films     bokeh-sampledata, films from Wikidata (CC0): is it in English, from its title and its actors
"""

from __future__ import annotations

import gzip
import importlib.util
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pandas as pd


def weather(folder: Path) -> Path:
    """As the package has it."""
    file = folder / "weather.csv"
    file.write_bytes((_data("vega_datasets") / "seattle-weather.csv").read_bytes())
    return file


def glucose(folder: Path) -> Path:
    """As the package has it, but for the last line's end, which is another than those before it."""
    file = folder / "glucose.csv"
    content = gzip.decompress((_data("bokeh_sampledata") / "CGM.csv.gz").read_bytes())
    file.write_bytes(content.replace(b"\r\n", b"\n"))
    return file


def films(folder: Path) -> Path:
    file = folder / "films.csv"
    query = """
        SELECT Title AS title, Released AS released, Runtime AS minutes, "Cast" AS actors, Language LIKE 'English%' AS english
        FROM omdb WHERE Released >= '2005' AND Language IS NOT NULL AND "Cast" != '' ORDER BY Released, ID"""
    with closing(sqlite3.connect(_data("bokeh_sampledata") / "movies.db")) as connection:
        rows = pd.read_sql(query, connection)
    rows.assign(english=rows["english"].map({1: "yes", 0: "no"})).to_csv(file, index=False)
    return file


LANDED: dict[str, Callable[[Path], Path]] = {"weather": weather, "glucose": glucose, "films": films}


def _data(package: str) -> Path:
    """The folder of its files, without an import: a package of data may need more than its data does."""
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.submodule_search_locations, f"{package} is not installed; run `make setup`"
    return Path(spec.submodule_search_locations[0]) / "_data"
