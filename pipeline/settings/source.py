"""The section `source` of a model's block: where its rows are from, and how its files are written."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from pipeline.settings.columns import ColumnName, Hook
from pipeline.settings.section import Section
from pipeline.settings.times import LONGEST_DAYS, ZoneName


class Csv(Section):
    """How the model's CSV files are written: those of source.files, and those that `predict` scores."""

    delimiter: str = Field(default=",", min_length=1, max_length=1)
    decimal: Literal[".", ","] = "."
    encoding: Literal["utf-8", "latin-1"] = "utf-8"

    @field_validator("encoding", mode="before")
    @classmethod
    def known_encoding(cls, encoding: object) -> object:
        if encoding not in ("utf-8", "latin-1"):
            raise ValueError(
                f"must be utf-8 or latin-1; got {encoding}. `iconv -f {encoding} -t utf-8` turns others into utf-8"
            )
        return encoding

    @model_validator(mode="after")
    def delimiter_is_no_part_of_a_value(self) -> Csv:
        if self.delimiter.isalnum() or self.delimiter in '"\n\r+-.' or not self.delimiter.isascii():
            raise ValueError(f"delimiter: {self.delimiter!r} is part of values; use , ; | or a tab")
        if self.delimiter == self.decimal:
            raise ValueError(
                "delimiter and decimal are both a comma; files with decimal commas mostly have delimiter ;"
            )
        return self


# The files that source.files may name, by the end of their names.
CSV_SUFFIXES, PARQUET_SUFFIX = (".csv", ".csv.gz"), ".parquet"


class Source(Section):
    """The source of rows: DuckDB SQL with $start and $end, files, or a Python hook `module:function`."""

    query: str | None = None
    files: tuple[str, ...] | None = None
    hook: Hook | None = None
    csv: Csv = Csv()
    # Without one a row is known by its event time and features.
    key: ColumnName | None = None
    event_time: ColumnName
    label_time: ColumnName | None = None
    arrival_time: ColumnName | None = None
    label_delay_days: float | None = Field(default=None, ge=0, le=LONGEST_DAYS)
    timezone: ZoneName = "UTC"
    # The unit of times that are numbers, since 1970-01-01 UTC; without it no number is a time.
    epoch: Literal["s", "ms", "us", "ns"] | None = None
    window_days: float = Field(gt=0, le=LONGEST_DAYS)

    @property
    def times(self) -> list[str]:
        """The columns that hold times."""
        named = (self.event_time, self.label_time, self.arrival_time)
        return list(dict.fromkeys(name for name in named if name is not None))

    @property
    def own_columns(self) -> list[str]:
        """The key, where there is one, and the times: the columns that every reading of the source needs."""
        return list(dict.fromkeys([*([self.key] if self.key else []), *self.times]))

    @property
    def kind(self) -> Literal["query", "files", "hook"]:
        """The key that names the rows."""
        return "query" if self.query is not None else "files" if self.files is not None else "hook"

    @field_validator("files")
    @classmethod
    def files_are_csv_or_parquet(cls, files: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if files is not None and not files:
            raise ValueError("name at least one file, like data/*.csv")
        for name in files or ():
            if "://" in name:
                raise ValueError(f"{name}: files are on a disk; read an address with query")
            if not name.endswith((*CSV_SUFFIXES, PARQUET_SUFFIX)):
                raise ValueError(f"{name}: must end in {', '.join(CSV_SUFFIXES)} or {PARQUET_SUFFIX}")
        if len({name.endswith(PARQUET_SUFFIX) for name in files or ()}) > 1:
            raise ValueError("names both CSV and Parquet; one model reads one of them")
        return files
