"""Awkward tables: what people's files look like, each with what `init` and the stages must make of it, and a model by hand to compare with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

ROWS = 2000
DAYS = 100
FIRST = pd.Timestamp("2024-01-01")


@dataclass(frozen=True)
class Awkward:
    """`write` puts the table into a folder as `table.*`; `by_hand` is the frame of features as a person would read them.

    `refused` is a part of the line that refuses the table; with a `by_hand` the SELECT in that line is then given as --data, and must
    lead to as good a model. `said` are parts of lines that must be said.
    `choices` are flags of `init`. `margin` is how far below the model by hand the metric may be: the noise of the held-out days.
    """

    write: Callable[[Path], str]
    by_hand: Callable[[], tuple[pd.DataFrame, pd.Series]] | None = None
    refused: str = ""
    said: tuple[str, ...] = ()
    choices: dict[str, Any] = field(default_factory=dict)
    margin: float = 0.02


def base(rows: int = ROWS, days: float = DAYS, seed: int = 3) -> pd.DataFrame:
    """Customers in order of time; who spends little and calls much churns."""
    random = np.random.default_rng(seed)
    seen = FIRST + pd.to_timedelta(np.sort(random.uniform(0, days * 86_400, rows)).round(3), unit="s")
    spend, calls = random.normal(50, 20, rows).round(2), random.poisson(3, rows)
    plan = random.choice(["basic", "plus", "pro"], rows, p=[0.5, 0.3, 0.2])
    risk = (calls - 3) / 1.7 - (spend - 50) / 20 + np.where(plan == "pro", -1.0, 0.3)
    return pd.DataFrame(
        {
            "customer_id": np.arange(rows) + 7000,
            "seen_at": seen,
            "spend": spend,
            "calls": calls,
            "plan": plan,
            "churned": (risk + random.normal(0, 1, rows) > 0.7).astype(int),
        }
    )


FEATURES = ["spend", "calls", "plan"]


def csv(change: Callable[[pd.DataFrame], pd.DataFrame] = lambda table: table, rows: int = ROWS, **options: Any) -> Any:
    """A writer of `base` after `change` as CSV, with the options of to_csv."""

    def write(folder: Path) -> str:
        change(base(rows)).to_csv(folder / "table.csv", **({"index": False} | options))
        return "table.csv"

    return write


def text(lines: Callable[[], str], encoding: str = "utf-8") -> Any:
    def write(folder: Path) -> str:
        (folder / "table.csv").write_bytes(lines().encode(encoding))
        return "table.csv"

    return write


def hand(
    features: Callable[[pd.DataFrame], pd.DataFrame] = lambda table: table[FEATURES],
    target: Callable[[pd.DataFrame], Any] = lambda table: table.churned,
    rows: int = ROWS,
    time: Callable[[pd.DataFrame], pd.Series] = lambda table: table.seen_at,
) -> Callable[[], tuple[pd.DataFrame, pd.Series]]:
    """The features and the target as a person reads them, with the time as index."""

    def made() -> tuple[pd.DataFrame, pd.Series]:
        table = base(rows)
        index = pd.DatetimeIndex(time(table))
        return features(table).set_axis(index), pd.Series(np.asarray(target(table)), index)

    return made


def _rng(seed: int = 11) -> np.random.Generator:
    return np.random.default_rng(seed)


def wide(table: pd.DataFrame) -> pd.DataFrame:
    noise = pd.DataFrame(_rng().normal(size=(len(table), 55)).round(3), columns=[f"f{i}" for i in range(55)])
    return pd.concat([of_a_week(table), noise], axis=1)


def of_a_week(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(seen_at=FIRST + (table.seen_at - FIRST) / (DAYS / 7))


def many_values(table: pd.DataFrame) -> pd.DataFrame:
    """A shop of 50,000, most of them in one row alone."""
    shop = _rng().permutation(np.arange(len(table)) * 5 // 6)
    return table.assign(shop=[f"s{n:05d}" for n in shop])


REVIEWS = {
    1: [
        "terrible slow support and broken line",
        "will cancel soon, too expensive for me",
        "line broken again and nobody answers",
    ],
    0: ["great service and friendly people", "works well and the price is fair", "happy with the fast line here"],
}


def reviewed(table: pd.DataFrame) -> pd.DataFrame:
    random = _rng()
    told = np.where(random.uniform(size=len(table)) < 0.8, table.churned, 1 - table.churned)
    return table.assign(
        note=[
            f"{REVIEWS[t][n]} {m}"
            for t, n, m in zip(
                told, random.integers(0, 3, len(table)), random.integers(0, 10**6, len(table)), strict=True
            )
        ]
    )


def rare(table: pd.DataFrame) -> pd.DataFrame:
    risk = -table.spend + 8 * table.calls + _rng().normal(0, 8, len(table))
    return table.assign(churned=(risk > np.quantile(risk, 0.995)).astype(int))


def five_ways(table: pd.DataFrame) -> pd.DataFrame:
    """A flag that decides, spelt in five ways, and upper and lower case."""
    random = _rng()
    on = np.where(random.uniform(size=len(table)) < 0.85, table.churned, 1 - table.churned)
    words = (["yes", "TRUE", "True", "y", "1"], ["no", "FALSE", "False", "n", "0"])
    return table.assign(active=[words[1 - o][w] for o, w in zip(on, random.integers(0, 5, len(table)), strict=True)])


def on(table: pd.DataFrame) -> pd.Series:
    return five_ways(table).active.str.lower().isin(["yes", "true", "y", "1"]).astype(int)


def of_one_day(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(seen_at=FIRST + (table.seen_at - FIRST) / DAYS)


def few_counts(table: pd.DataFrame) -> pd.Series:
    return ((table.spend + _rng().normal(0, 15, len(table))) // 20).clip(0, 3).astype(int)


def thousands(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(spend=(table.spend * 1000).map("{:,.2f}".format))


NAMES = {
    "spend": 'Total "net" spend',
    "calls": "Anrufe je Müller 📞",
    "plan": "plan, of today",
    "customer_id": "customer id",
}

TABLES: dict[str, Awkward] = {
    "strings as targets": Awkward(
        csv(lambda t: t.assign(churned=np.where(t.churned, "Churned", "Stayed"))), hand(), said=("positive:",)
    ),
    "labels -1 and 1": Awkward(csv(lambda t: t.assign(churned=2 * t.churned - 1)), hand(), choices={"positive": "1"}),
    "60 columns": Awkward(
        csv(wide, rows=1200),
        hand(
            lambda t: wide(t).drop(columns=["customer_id", "seen_at", "churned"]),
            rows=1200,
            time=lambda t: of_a_week(t).seen_at,
        ),
    ),
    "a category of 50,000 values": Awkward(csv(many_values, rows=60_000), hand(rows=60_000)),
    "an empty column": Awkward(
        csv(lambda t: t.assign(region=None)), hand(), said=("left out region: it has a value in no row",)
    ),
    "free text": Awkward(csv(reviewed), hand(), said=("note",)),
    "naive local times": Awkward(
        csv(
            lambda t: t.assign(
                seen_at=t.seen_at.dt.tz_localize("UTC").dt.tz_convert("Europe/Berlin").dt.tz_localize(None)
            )
        ),
        hand(),
        choices={"timezone": "Europe/Berlin"},
    ),
    "0.5 % positives": Awkward(csv(rare, rows=20_000), hand(target=lambda t: rare(t).churned, rows=20_000)),
    "one class": Awkward(csv(lambda t: t.assign(churned=1)), refused="--target churned: is '1' in every row"),
    "ten rows": Awkward(csv(lambda t: t.head(10)), refused="has 10 rows"),
    "each row twice": Awkward(csv(lambda t: t.loc[t.index.repeat(2)]), hand()),
    "a leak": Awkward(
        csv(lambda t: t.assign(refund=t.churned * 9.5)), hand(), said=("left out refund: it alone predicts",)
    ),
    "the target's twin is called an id": Awkward(
        csv(lambda t: t.drop(columns="customer_id").assign(status_id=t.churned + 100)),
        hand(),
        said=("left out status_id: it alone",),
    ),
    "days as DD.MM.YYYY": Awkward(
        csv(lambda t: t.assign(seen_at=t.seen_at.dt.strftime("%d.%m.%Y"))), hand(), refused="%d.%m.%Y"
    ),
    "times as MM/DD/YYYY": Awkward(
        csv(lambda t: t.assign(seen_at=t.seen_at.dt.strftime("%m/%d/%Y %H:%M"))), hand(), refused="%m/%d/%Y"
    ),
    "decimal commas and semicolons": Awkward(csv(sep=";", decimal=","), hand()),
    "latin-1": Awkward(csv(lambda t: t.assign(plan=t.plan.replace("pro", "größer")), encoding="latin-1"), hand()),
    "utf-8 with a mark": Awkward(csv(encoding="utf-8-sig"), hand()),
    "utf-16": Awkward(csv(encoding="utf-16"), refused="is utf-16; `iconv"),
    "names with spaces, quotes and pictures": Awkward(csv(lambda t: t.rename(columns=NAMES)), hand()),
    "names that differ in case": Awkward(csv(lambda t: t.assign(Spend=t.spend)), refused="has Spend twice"),
    "a name twice": Awkward(
        csv(lambda t: t.assign(spend_=t.spend).rename(columns={"spend_": "spend"})), refused="spend twice"
    ),
    "booleans in five ways": Awkward(csv(five_ways), hand(lambda t: t[FEATURES].assign(on=on(t)))),
    "infinities": Awkward(
        csv(
            lambda t: t.assign(
                calls=np.where(t.index % 25 == 0, np.inf, t.calls), spend=np.where(t.index % 40 == 0, -np.inf, t.spend)
            )
        ),
        hand(
            lambda t: t[FEATURES].assign(calls=t.calls.where(t.index % 25 != 0), spend=t.spend.where(t.index % 40 != 0))
        ),
    ),
    "constant columns": Awkward(csv(lambda t: t.assign(one=1, x="x")), hand(), said=("left out one", "left out x")),
    "times in the future": Awkward(
        csv(lambda t: t.assign(seen_at=t.seen_at.where(t.index % 500 != 0, pd.Timestamp("2099-01-01")))),
        refused="2099",
    ),
    "one day": Awkward(csv(of_one_day), hand(time=lambda t: of_one_day(t).seen_at)),
    "a target with missing values": Awkward(
        csv(lambda t: t.assign(churned=t.churned.astype("Int64").where(t.index % 10 != 0))),
        hand(target=lambda t: t.churned.astype(float).where(t.index % 10 != 0)),
    ),
    "thousands separators": Awkward(csv(thousands), hand(), refused="has numbers with marks in them"),
    "mixed types": Awkward(
        csv(lambda t: t.assign(calls=np.where(t.index % 2, t.calls.astype(str), "unknown"))),
        hand(lambda t: t[FEATURES].assign(calls=np.where(t.index % 2, t.calls, -1))),
    ),
    "wide integers": Awkward(csv(lambda t: t.assign(calls=t.calls * 10**15 + 9_007_199_254_740_993)), hand()),
    "missing in many words": Awkward(
        csv(
            lambda t: t.assign(
                spend=np.where(
                    t.index % 6 == 0, np.resize(["NA", "N/A", "null", "", "nan", "None"], len(t)), t.spend.astype(str)
                )
            )
        ),
        hand(lambda t: t[FEATURES].assign(spend=t.spend.where(t.index % 6 != 0))),
    ),
    "question marks for missing": Awkward(
        csv(lambda t: t.assign(spend=np.where(t.index % 6 == 0, "?", t.spend.astype(str)))),
        hand(lambda t: t[FEATURES].assign(spend=t.spend.where(t.index % 6 != 0))),
        refused="is a number in 1,666 of 2,000 rows, and '?' in most others",
    ),
    "numbers with a currency": Awkward(
        csv(lambda t: t.assign(spend=t.spend.map("${:.2f}".format))), hand(), refused="like '$"
    ),
    "tabs": Awkward(csv(sep="\t"), hand()),
    "line breaks in cells": Awkward(
        csv(lambda t: t.assign(plan=t.plan + '\nof "today"'), lineterminator="\r\n"), hand()
    ),
    "huge and tiny numbers": Awkward(
        csv(lambda t: t.assign(spend=t.spend * 1e200, calls=t.calls * 1e-200)), hand(lambda t: t[FEATURES])
    ),
    "rows in no order": Awkward(csv(lambda t: t.sample(frac=1, random_state=1)), hand()),
    "only a line of names": Awkward(csv(lambda t: t.head(0)), refused="--data: has no rows"),
    "an empty file": Awkward(text(lambda: ""), refused="is empty"),
    "no line of names": Awkward(csv(header=False), refused="--target churned: is no column"),
    "a regression with a long tail": Awkward(
        csv(lambda t: t.assign(churned=np.exp(t.spend / 15).round(2))),
        hand(target=lambda t: np.exp(t.spend / 15).round(2)),
    ),
    "counts of few values": Awkward(
        csv(lambda t: t.assign(churned=few_counts(t))),
        hand(target=few_counts),
    ),
    "words of yaml as names and labels": Awkward(
        csv(
            lambda t: t.assign(
                churned=np.where(t.churned, "on", "off"), plan=t.plan.replace({"pro": "null", "plus": "no"})
            ).rename(columns={"plan": "yes", "calls": "null"})
        ),
        hand(),
        choices={"target": "churned"},
    ),
}
