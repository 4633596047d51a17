"""Each defect that a challenger may have is stopped by exactly the gates that are for it, and a sound challenger passes all."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness.project import CHURN, ROOT
from pipeline.errors import StageError
from pipeline.gates import run
from pipeline.gates.base import LiveFacts, Verdict
from pipeline.gates.image_system import ImageSystem, ServingSystem, SystemPackage
from pipeline.settings.models import Model
from pipeline.training import evaluate, fit, package, refit, skops_file
from pipeline.workspaces.dvc_graph import Artifacts

LINEAR = {"estimator": "linear", "options": {}}
BOOSTING = {"estimator": "boosting", "options": {"max_iter": 30}}
GATES = {
    "metric_limit": 0.6,
    "baseline_margin": 0.05,
    "champion_tolerance": 0.05,
    "contract": {"columns": {}},
    "slices": {"columns": ["plan", "region"], "min_rows": 100},
    "fairness": {"columns": ["sex"]},
    "calibration": {"error": 0.1},
    "unknown_ranges": 0.05,
    "sanity": {"importance_jump": 0.5},
    "churn": {"limit": 0.3},
    "export": {"size_mb": 5, "p99_ms": 500},
    "supply_chain": {"licences": ["unknown", "MIT", "MIT-0", "BSD-3-Clause", "BSD-2-Clause", "Apache-2.0", "MPL-2.0",
                                  "PSF-2.0", "0BSD", "Zlib", "CC0-1.0"]},
}  # fmt: skip
OSV = [
    {
        "id": "PYSEC-2099-1",
        "summary": "reads what it should not",
        "affected": [
            {
                "package": {"ecosystem": "PyPI", "name": "OnnxRuntime"},
                "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "999"}]}],
            }
        ],
    }
]
# Of the distribution that an engine would serve from.
OF_DEBIAN = [
    {
        "id": "DEBIAN-CVE-2099-1",
        "affected": [
            {
                "package": {"ecosystem": "Debian:12", "name": "glibc"},
                "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "2.36-9+deb12u1"}]}],
            }
        ],
    }
]
LIBC = SystemPackage("libc6", "2.36-9", "amd64", "glibc")
SERVING = ServingSystem("docker", "docker engine 28", "sha256:ab", ImageSystem("sha256:cd", "debian", "12", (LIBC,)))
HELD_OUT = pd.Timestamp("2024-02-20", tz="UTC")


def customers(seed: int = 7, rows: int = 3600) -> pd.DataFrame:
    """Customers of 30 days up to the as-of, ten of them held out; region and sex are no features."""
    rng = np.random.default_rng(seed)
    seen = pd.Timestamp("2024-01-31", tz="UTC") + pd.to_timedelta(np.arange(rows) * 30 * 86_400 / rows, unit="s")
    spend, calls = rng.uniform(1, 200, rows), rng.poisson(3, rows).astype(float)
    table = {
        "customer": [f"c{i:06d}" for i in range(rows)],
        "seen_at": seen.as_unit("us"),
        "spend": spend,
        "calls": calls,
        "visits": rng.normal(0, 1, rows),
        "plan": rng.choice(["basic", "plus"], rows, p=[0.7, 0.3]),
        "region": rng.choice(["north", "south", "west"], rows),
        "sex": rng.choice(["f", "m"], rows),
        "left": (calls * 20 - spend + rng.normal(0, 40, rows) > 0).astype(float),
    }
    return pd.DataFrame(table)


def is_trained_on(rows: pd.DataFrame) -> pd.Series:
    return rows["seen_at"] < HELD_OUT


def block(**sections: Any) -> dict[str, Any]:
    """The settings: `training` and `gates` replace single keys."""
    settings = copy.deepcopy(CHURN)
    settings["evaluation"] |= {"holdout_days": 10, "reference_rows": 10_000}
    settings["training"] |= {"numeric": ["spend", "calls", "visits"]} | LINEAR | sections.get("training", {})
    settings["evaluation"] |= sections.get("evaluation", {})
    settings["gates"] = copy.deepcopy(GATES) | sections.get("gates", {})
    return settings


def built(settings: dict[str, Any], rows: pd.DataFrame, folder: Path) -> Artifacts:
    """What the stages make of these rows."""
    files, model = Artifacts(folder, "churn"), Model.model_validate(settings)
    files.folder.mkdir(parents=True)
    shutil.copytree(ROOT / "requirements", folder / "requirements")
    skops_file.save(fit.fit(rows, model), files.model)
    evaluate.evaluate(model, rows, files.model, files.predictions, files.reference, files.metrics)
    refit.write(model, rows, files.model, files.predictions, files.refit)
    served = files.served_model, files.served_predictions
    package.build("churn", model, *served, files.package, files.snapshot, refitted=True)
    (folder / "osv.json").write_text(json.dumps(OSV))
    (folder / "debian.json").write_text(json.dumps(OF_DEBIAN))
    report = {"in": len(rows), "kept": len(rows), "quarantined": 0, "held_out": 1200, "faults": [], "missing": []}
    files.validation.write_text(json.dumps(report))
    return files


@pytest.fixture(scope="module")
def champion(tmp_path_factory) -> Artifacts:
    """A version that is live, of other customers, which never saw the held-out days."""
    return built(block(evaluation={"refit": False}), customers(seed=1), tmp_path_factory.mktemp("champion"))


@pytest.fixture(scope="module")
def weak(tmp_path_factory) -> Artifacts:
    """A version that has not learnt enough."""
    few = {"training": BOOSTING | {"options": {"max_iter": 3}}, "evaluation": {"refit": False}}
    return built(block(**few), customers(seed=1), tmp_path_factory.mktemp("weak"))


@pytest.fixture(scope="module")
def knowing(tmp_path_factory) -> Artifacts:
    """A version that is live and has seen the held-out rows."""
    return built(block(), customers(), tmp_path_factory.mktemp("knowing"))


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Artifacts:
    return built(block(), customers(), tmp_path_factory.mktemp("sound"))


@dataclass(frozen=True)
class Defect:
    """What is planted into the rows of a sound challenger, its settings, or what is known of the version that is live; `stops` are the
    gates that find it. `beside` is the fixture of the champion."""

    stops: frozenset[str]
    plant: Callable[[pd.DataFrame], pd.DataFrame] | None = None
    sections: dict[str, Any] = field(default_factory=dict)
    live: dict[str, Any] = field(default_factory=dict)
    beside: str | None = "champion"


def leak(rows: pd.DataFrame, wrong: float) -> pd.DataFrame:
    """A number that is made of the label, but for a share of the rows."""
    flips = np.random.default_rng(3).random(len(rows)) < wrong
    return rows.assign(visits=np.where(flips, 1 - rows["left"], rows["left"]) * 10 + rows["visits"] * 0.1)


def shuffled(rows: pd.DataFrame) -> pd.DataFrame:
    trained = is_trained_on(rows)
    labels = rows["left"].where(~trained, rows["left"].sample(frac=1, random_state=0).to_numpy())
    return rows.assign(left=labels)


def worse_for_plus(rows: pd.DataFrame) -> pd.DataFrame:
    """Of one plan every other label is wrong in training."""
    wrong = is_trained_on(rows) & (rows["plan"] == "plus") & (rows.index % 2 == 0)
    return rows.assign(left=rows["left"].where(~wrong, 1 - rows["left"]))


def biased(rows: pd.DataFrame) -> pd.DataFrame:
    """Of the two sexes one spends less, and so is said to leave more often than it does."""
    return rows.assign(spend=rows["spend"] - 60 * (rows["sex"] == "f"), visits=rows["visits"])


def grown(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(visits=rows["visits"] + 100.0 * ~is_trained_on(rows))


def renamed(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(plan=rows["plan"].where(is_trained_on(rows), rows["plan"].str.upper()))


def stops(*gates: str) -> frozenset[str]:
    return frozenset(gates)


DEFECTS = {
    "a leaky feature": Defect(stops("leakage"), lambda rows: leak(rows, 0.01), beside=None),
    "a feature that is the label": Defect(stops("leakage", "perfect_score"), lambda rows: leak(rows, 0), beside=None),
    "a leaky feature that the champion has not": Defect(
        stops("leakage", "importance_jump"), lambda rows: leak(rows, 0.01)
    ),
    "shuffled labels": Defect(stops("metric_limit", "naive_baseline", "calibration"), shuffled, beside=None),
    "a slice that got worse under a better mean": Defect(
        stops("slices", "automatic_slices"),
        worse_for_plus,
        {
            "training": BOOSTING | {"encoding": "one_hot"},
            "evaluation": {"metric": "log_loss"},
            "gates": {"champion_tolerance": 0.0, "churn": {"limit": 1.0}},
        },
        beside="weak",
    ),
    "a biased column": Defect(stops("fairness"), biased),
    "constant predictions": Defect(
        stops("constant_prediction", "metric_limit", "naive_baseline"),
        sections={"training": BOOSTING | {"options": {"min_samples_leaf": 10**6}}},
        beside=None,
    ),
    "probabilities that do not come true": Defect(
        stops("calibration"),
        sections={"training": {"options": {"class_weight": "balanced"}}, "gates": {"calibration": {"error": 0.05}}},
        beside=None,
    ),
    "numbers that were never learnt": Defect(stops("unknown_ranges"), grown, {"training": BOOSTING}, beside=None),
    "categories that were never learnt": Defect(stops("unknown_categories"), renamed),
    "a column that clients do not send": Defect(
        stops("schema"),
        lambda rows: rows.assign(age=1.0 + rows["visits"] ** 2),
        {"training": {"numeric": ["spend", "calls", "visits", "age"]}},
    ),
    "a feature whose importance jumps": Defect(
        stops("importance_jump"), live={"importances": {"spend": 0.01, "calls": 0.01, "visits": 0.9}}
    ),
    "decisions that flip": Defect(stops("churn"), sections={"gates": {"churn": {"limit": 0.001}}}),
    "a large package": Defect(stops("package_size"), sections={"gates": {"export": {"size_mb": 0.0001}}}),
    "a slow answer": Defect(stops("one_row_latency"), sections={"gates": {"export": {"p99_ms": 1e-6}}}),
    "a licence that is not allowed": Defect(
        stops("supply_chain"), sections={"gates": {"supply_chain": {"licences": ["MIT"]}}}
    ),
    "a known vulnerability": Defect(
        stops("supply_chain"), sections={"gates": {"supply_chain": {"vulnerabilities": "osv.json"}}}
    ),
    "a known vulnerability of the distribution": Defect(
        stops("supply_chain"), sections={"gates": {"supply_chain": {"vulnerabilities": "debian.json"}}}
    ),
}


@pytest.fixture
def judged(request, sound, tmp_path) -> Callable[[Defect], list[Verdict]]:
    """All gates on a challenger with the defect."""

    def judge(defect: Defect, package_of: Artifacts | None = None) -> list[Verdict]:
        settings, rows, files = block(**defect.sections), customers(), sound
        if defect.plant or "training" in defect.sections or package_of:
            files = built(settings, defect.plant(rows) if defect.plant else rows, tmp_path / "challenger")
        if package_of:
            shutil.rmtree(files.package)
            shutil.copytree(package_of.package, files.package)
        if defect.beside is None:
            return run.verdicts(Model.model_validate(settings), files, None, None)
        champion = request.getfixturevalue(defect.beside)
        requests = customers(seed=2)[["spend", "calls", "visits", "plan"]]
        known = {"requests": requests, "importances": json.loads(champion.metrics.read_text())["importances"]}
        live = LiveFacts(**(known | defect.live))
        return run.verdicts(
            Model.model_validate(settings),
            files,
            champion.package,
            "1",
            live=live,
            serving_system=lambda runtime: SERVING,
        )

    return judge


def stopped(verdicts: list[Verdict]) -> set[str]:
    return {verdict.gate for verdict in verdicts if verdict.stops}


@pytest.mark.parametrize("name", DEFECTS)
def test_each_defect_is_stopped_by_the_gates_that_are_for_it(judged, name):
    """The gates that stop are these and no others."""
    found = judged(DEFECTS[name])
    assert stopped(found) == DEFECTS[name].stops, "\n".join(str(verdict) for verdict in found)


def test_a_champion_that_had_seen_the_rows_is_not_compared_on_them(judged):
    """Beside a champion that was trained on the held-out rows there is no verdict, with what will give one; slices are not compared with it."""
    found = {verdict.gate: verdict for verdict in judged(Defect(frozenset(), beside="knowing"))}
    assert (found["champion"].word, found["champion"].stops) == ("no verdict", False)
    assert "0 of the 1,200 held-out rows are newer" in found["champion"].reason
    assert "beside the naive guess" in found["slices"].reason


def test_a_longer_holdout_stops_no_challenger_that_had_less_to_learn_from(judged, champion, tmp_path):
    """A champion that was trained on days which are held out now: to be worse beside it is no verdict, with what will give one; beside one of the same days it stops."""
    newer = built(block(evaluation={"refit": False, "holdout_days": 5}), customers(seed=1), tmp_path / "newer")
    poorer = {"training": BOOSTING | {"options": {"max_iter": 3}}, "gates": {"champion_tolerance": 0.0}}
    files = built(block(**poorer), customers(), tmp_path / "poorer")

    def found(beside):
        told = run.verdicts(Model.model_validate(block(**poorer)), files, beside.package, "1")
        return {verdict.gate: verdict for verdict in told}

    told = found(newer)
    assert (told["champion"].word, told["champion"].stops) == ("no verdict", False)
    assert "trained on 5 days that are held out from this one (evaluation.holdout_days)" in told["champion"].reason
    assert "beside the naive guess" in told["slices"].reason
    assert found(champion)["champion"].stops


def test_a_wrong_conversion_is_stopped_by_parity_alone(judged, champion):
    """A package of another model than the one that was evaluated goes no further."""
    assert stopped(judged(Defect(frozenset()), package_of=champion)) == {"onnx_parity"}


def test_a_package_that_was_damaged_is_told_in_one_line(sound, tmp_path):
    """What DVC's cache gives back may be another file than the stage wrote; the line says which, and what to do."""
    damaged = Artifacts(tmp_path, "churn")
    shutil.copytree(sound.folder, damaged.folder)
    (damaged.package / "model.onnx").write_bytes(b"other bytes")
    with pytest.raises(StageError, match="model.onnx is not what was packaged; a copy in DVC's cache may be damaged"):
        run.verdicts(Model.model_validate(block()), damaged, None, None)


def test_a_sound_challenger_passes_all(judged):
    """With each gate at work none stops, warns, or lacks a verdict."""
    found = judged(Defect(frozenset()))
    assert {verdict.gate for verdict in found} >= {gate.__module__.rpartition(".")[2] for gate in run.MODEL_GATES}
    assert [str(verdict) for verdict in found if verdict.word != "passed"] == []
