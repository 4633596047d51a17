"""Joins labels to the answers that they belong to.

A row is its key and its event time: a customer who is scored every third day has many labels, and each belongs to the answer of its time.
An answer that came without an event time is known by its key alone, and joined only where that key has a single label. A model without
source.key has derived keys, and its labels the column `alike` (see derived_keys).
"""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pandas as pd

from pipeline.monitoring.derived_keys import ALIKE, WEIGHT, told_apart

TIME = "datetime64[us, UTC]"


def with_labels(answers: pd.DataFrame, labelled: pd.DataFrame, tolerance: timedelta) -> pd.DataFrame:
    """The answers that have a label, each label once, with the columns `target` and `known`, and WEIGHT where `labelled` has it: a label
    whose weight is NaN goes to no answer.

    `answers` (key, event_time, and `timed`, whether the request had an event time) are in the order of their arrival; `labelled` has key,
    event_time, target and known. A label goes to the answers to its key within `tolerance` of its time; of several the nearest counts,
    and of equally near ones the first. Which one does not depend on the order of the labels.
    """
    if ALIKE in labelled.columns:
        answers, labelled = told_apart(answers, labelled)
    if WEIGHT in labelled.columns:
        labelled = labelled[labelled[WEIGHT].notna()]
    asked = answers.dropna(subset=["key"]).astype({"key": "str"})
    known = labelled.dropna(subset=["key"]).sort_values(["key", "event_time", "known", "target"], kind="stable")
    # A row that the source has twice has one label: the first that was known.
    known = known.drop_duplicates(["key", "event_time"]).reset_index(drop=True)
    if asked.empty or known.empty:
        return asked.head(0).assign(target=pd.Series(dtype="float64"), known=pd.Series(dtype=TIME))
    arrival, label = pairs(asked, known, tolerance)
    order = np.argsort(arrival, kind="stable")
    matched = asked.iloc[arrival[order]]
    found = known.iloc[label[order]]
    weights = {WEIGHT: found[WEIGHT].to_numpy()} if WEIGHT in found.columns else {}
    return matched.assign(target=found["target"].to_numpy(), known=found["known"].array, **weights)


def at_other_times(answers: pd.DataFrame, labelled: pd.DataFrame, tolerance: timedelta) -> int:
    """The answers whose key has labels, none of them within `tolerance` of the answer's event time."""
    asked = answers.dropna(subset=["key"]).astype({"key": "str"})
    asked = asked[asked["key"].isin(set(labelled["key"])) & _timed(asked)]
    return len(asked) - len(_nearest(_places(asked), _places(labelled), tolerance)) if len(asked) else 0


def pairs(asked: pd.DataFrame, known: pd.DataFrame, tolerance: timedelta) -> tuple[np.ndarray, np.ndarray]:
    """(places in `asked`, places in `known`) of answers and labels, or rows of the source, that belong together; each of `known` at most
    once. Both have a key, as text, in each row."""
    left, right, timed = _places(asked), _places(known), _timed(asked)
    near = _nearest(left[timed], right, tolerance)
    near["apart"] = (near["at"] - near["its"]).abs()
    near = near.sort_values(["label", "apart", "place"]).drop_duplicates("label")
    # By the key alone: where it has one label, and no answer with a time has that.
    alone = right.drop_duplicates("key", keep=False).rename(columns={"place": "label"})
    alone = alone[~alone["label"].isin(near["label"])]
    untimed = left[~timed].drop_duplicates("key").merge(alone[["key", "label"]], on="key")
    pairs = pd.concat([near[["place", "label"]], untimed[["place", "label"]]]).astype("int64")
    return pairs["place"].to_numpy(), pairs["label"].to_numpy()


def _nearest(left: pd.DataFrame, right: pd.DataFrame, tolerance: timedelta) -> pd.DataFrame:
    """Those of `left` (key, at, place) that have one of `right` near, with its `label` (its place) and its time."""
    labels = right.rename(columns={"place": "label"}).assign(its=right["at"])
    return pd.merge_asof(
        left.sort_values(["at", "place"]),
        labels.sort_values(["at", "label"]),
        on="at",
        by="key",
        direction="nearest",
        tolerance=pd.Timedelta(tolerance),
    ).dropna(subset=["label"])


def _places(rows: pd.DataFrame) -> pd.DataFrame:
    keys, times = rows["key"].astype("object").array, rows["event_time"].astype(TIME).array
    return pd.DataFrame({"key": keys, "at": times, "place": np.arange(len(rows))})


def _timed(answers: pd.DataFrame) -> np.ndarray:
    """Whether each request had an event time; a deployer of an earlier version does not say, and then it had."""
    return answers["timed"].to_numpy(bool) if "timed" in answers.columns else np.ones(len(answers), bool)
