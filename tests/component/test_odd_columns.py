"""Columns with names that programs misread go through a whole run, and what reads their values afterwards."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import mlflow
import numpy as np
import pandas as pd
import pytest

from harness.commands import said
from harness.project import CHURN, customers, make_project
from harness.router import router

KEY, SEEN, DECIDED, TARGET = 'Kunde "Nr." [1]', "seen: at", "decided/at", "left? it's 50%"
NUMBERS = ["Floor Area [m²]", "50%", "x..y", "a:b", " lead", "index", "$start", 'it\'s "x"']
SINCE, NOTE = "seit <wann>", 'note: "free"'
DAYS, SIZES = f"{SINCE} days", [f"{NOTE} characters", f"{NOTE} words"]
TEXTS = ["größe", "a/b", "a.b", "{z}", "`t`; --", "${d}"]
MODEL = CHURN | {
    "source": {
        "query": f"""SELECT * FROM read_parquet('odd/*.parquet') WHERE "{SEEN}" >= $start AND "{SEEN}" < $end""",
        "key": KEY,
        "event_time": SEEN,
        "label_time": DECIDED,
        "timezone": "Europe/Berlin",
        "window_days": 30,
    },
    "training": CHURN["training"]
    | {"target": TARGET, "numeric": NUMBERS, "categorical": TEXTS, "datetime": [SINCE], "text": [NOTE]},
    "gates": {
        "metric_limit": 0.6,
        "contract": {
            "columns": {name: {"min": 0, "nullable": True} for name in NUMBERS}
            | {name: {"allowed": ["basic", "plus"]} for name in TEXTS}
            | {KEY: {"nullable": False}, SINCE: {"nullable": True}, TARGET: {"allowed": [0, 1]}}
        },
    },
    "monitor": {"cron": "0 6 * * *", "window_days": 30, "min_rows": 20},
    "rollout": CHURN["rollout"] | {"follow": f"body:{KEY}", "serving": {"personal": {KEY: "hash", "größe": "drop"}}},
}


def odd_customers() -> pd.DataFrame:
    """The customers, with their columns under odd names and again under others."""
    rows = customers().rename(columns={"customer": KEY, "seen_at": SEEN, "decided_at": DECIDED, "left": TARGET})
    for place, name in enumerate(NUMBERS):
        rows[name] = rows[("spend", "calls")[place % 2]]
    for name in TEXTS:
        rows[name] = rows["plan"]
    # Local times of an hour that a clock went through twice, and of days before and after it; some are missing.
    since = pd.Timestamp("2023-10-29") + pd.to_timedelta(rows["spend"].round(), unit="min")
    rows[SINCE] = since.where(rows["calls"].notna())
    rows[NOTE] = [None if calls != calls else " ".join(["on, it rings\n"] * int(calls)) for calls in rows["calls"]]
    return rows.drop(columns=["spend", "calls", "plan"])


@pytest.fixture
def odd(tmp_path, monkeypatch) -> Path:
    folder = make_project(tmp_path / "project", {"odd": MODEL})
    (folder / "odd").mkdir()
    odd_customers().to_parquet(folder / "odd" / "all.parquet")
    with (folder / ".gitignore").open("a") as ignored:
        ignored.write("/odd/\n")
    monkeypatch.chdir(folder)
    return folder


def as_csv(records: list[dict]) -> str:
    out = io.StringIO()
    written = csv.DictWriter(out, list(records[0]))
    written.writeheader()
    written.writerows(records)
    return out.getvalue()


def as_tensors(records: list[dict]) -> dict:
    tensors = [
        {
            "name": name,
            "shape": [len(records)],
            "datatype": "FP32" if name in NUMBERS else "BYTES",
            "data": [r[name] for r in records],
        }
        for name in records[0]
    ]
    return {"inputs": tensors}


def in_mlflow(project: Path, rows: pd.DataFrame) -> list[float]:
    """What the version that MLflow has predicts; its signature has the columns, and its params the rules."""
    mlflow.set_tracking_uri(f"sqlite:///{project / '.perennial' / 'mlflow' / 'mlflow.db'}")
    model = mlflow.pyfunc.load_model("models:/odd/1")
    assert model.metadata.get_input_schema().input_names() == [*NUMBERS, DAYS, *SIZES, *TEXTS]
    params = mlflow.get_run(model.metadata.run_id).data.params
    assert json.loads(params["gates.contract.columns"])["Floor Area [m²]"]["min"] == 0
    # MLflow's own server has no code of ours: it wants what the model gets of a time and a text.
    instants = rows[SINCE].dt.tz_localize("Europe/Berlin", ambiguous=False)
    days = (instants - pd.Timestamp("2000-01-01", tz="UTC")) / pd.Timedelta(days=1)
    texts = rows[NOTE].replace("", None)
    sizes = {SIZES[0]: texts.str.len(), SIZES[1]: texts.str.split().str.len()}
    asked = rows.assign(**{DAYS: days, **sizes})
    asked = asked[[*NUMBERS, DAYS, *SIZES, *TEXTS]]
    # The times lie within hours, which float32 cannot tell apart.
    types = dict.fromkeys([*NUMBERS, *SIZES], "float32") | {DAYS: "float64"}
    wanted = {c.name: c.type.to_numpy() for c in model.metadata.get_input_schema() if c.name in types}
    assert wanted == {name: np.dtype(kind) for name, kind in types.items()}
    return model.predict(asked.astype(types)).tolist()


def own_python() -> dict[str, str]:
    return os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def test_odd_names_go_from_the_source_to_mlflow_the_slot_a_file_and_the_monitor(odd):
    """A run trains, registers and goes live; JSON, CSV, tensors and a file give the same predictions; drift is checked."""
    rows = odd_customers().tail(40).drop(columns=[TARGET, DECIDED])
    asked = rows.astype(object)
    asked = asked.assign(**{n: [None if t is pd.NaT else t.isoformat() for t in rows[n]] for n in (SEEN, SINCE)})
    records = asked.where(asked.notna(), None).to_dict("records")
    with router(odd, odd / ".perennial") as at:
        addresses = {"PERENNIAL_ROUTER_URL": at.router, "PERENNIAL_ROUTER_API_URL": at.router_api}
        try:
            done = said(["retrain", "odd", "--deploy", "--json"], **addresses)
            assert done.returncode == 0, done.stderr
            assert json.loads(done.stdout)["outcome"] == "version 1 went live"
            url = f"{at.router}/odd/invocations"
            answer = httpx.post(url, json={"dataframe_records": records})
            live = answer.json()["predictions"]
            assert len(live) == 40, answer.text
            by_csv = httpx.post(url, content=as_csv(records), headers={"content-type": "text/csv"})
            assert by_csv.json() == answer.json()
            by_tensor = httpx.post(f"{at.router}/odd/v2/models/odd/infer", json=as_tensors(records))
            assert by_tensor.status_code == 200, by_tensor.text
            assert by_tensor.json()["outputs"][0]["data"] == live
            rows.to_parquet("in.parquet")
            for output in ("out.parquet", "out.csv"):
                scored = said(["predict", "odd", "--input", "in.parquet", "--output", output])
                assert scored.returncode == 0, scored.stderr
            others = subprocess.run(
                ["git", "ls-files", "--others", "--exclude-standard"], capture_output=True, text=True
            )
            assert "in.parquet" in others.stdout and "out." not in others.stdout, "each run would commit the scores"
            assert pd.read_parquet("out.parquet")["prediction"].tolist() == live
            checked = said(["drift", "odd", "--as-of", "2024-03-19T00:00:00Z", "--json"], **addresses)
            assert checked.returncode == 0, checked.stderr
            drift = json.loads(checked.stdout)
            looked_at = {*NUMBERS, DAYS, *SIZES, *TEXTS} - {"größe"}
            # Numbers that go together have a difference too.
            differences = {f"{first} minus {second}" for first in looked_at for second in looked_at}
            assert {feature["feature"] for feature in drift["features"]} - differences == looked_at
            assert drift["live_quality"]["labelled"] == 40
            assert "Floor Area [m" in Path(drift["report"]).read_text()
        finally:
            said(["undeploy", "odd"], **addresses)
    assert in_mlflow(odd, rows) == pytest.approx(live, abs=1e-6)
    reproduced = subprocess.run(
        [sys.executable, "-m", "dvc", "repro"], capture_output=True, text=True, check=False, env=own_python()
    )
    assert reproduced.returncode == 0, reproduced.stderr
