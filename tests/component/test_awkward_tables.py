"""Awkward tables: each is trained as well as a straightforward scikit-learn model by hand, or refused in one line that is right."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace

import pandas as pd
import pytest

from pipeline.errors import PerennialError
from pipeline.gates import run as gates
from pipeline.init import small_table
from pipeline.init.request import Request
from pipeline.init.run import init
from pipeline.runs import stages
from pipeline.settings.models import Model, load
from pipeline.training.evaluate import Evaluation
from pipeline.training.tasks import METRICS
from pipeline.workspaces.dvc_graph import Artifacts
from tests.support.awkward import TABLES

# Of boosting, here and by hand: what is read of a table shows with a fifth of the usual trees, in a third of the time.
TREES = {"max_iter": 20}


def by_hand(features: pd.DataFrame, target: pd.Series, start, task: str, metric: str) -> float:
    """The metric on the held-out rows of boosting with its defaults but for TREES, as anybody writes it."""
    from sklearn import metrics
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    names = features.select_dtypes(exclude="number").columns
    features = features.assign(**{name: features[name].astype("category").cat.codes for name in names})
    known = target.notna().to_numpy()
    held = (features.index >= start)[known]
    x, y = features.to_numpy(dtype="float64")[known], target.to_numpy(dtype="float64")[known]
    if task == "binary":
        model = HistGradientBoostingClassifier(random_state=0, **TREES).fit(x[~held], y[~held])
        assert metric == "roc_auc"
        return float(metrics.roc_auc_score(y[held], model.predict_proba(x[held])[:, 1]))
    if task == "multiclass":
        assert metric == "log_loss"
        model = HistGradientBoostingClassifier(random_state=0, **TREES).fit(x[~held], y[~held])
        return float(metrics.log_loss(y[held], model.predict_proba(x[held])))
    assert (task, metric) == ("regression", "mae")
    guess = HistGradientBoostingRegressor(random_state=0, **TREES).fit(x[~held], y[~held]).predict(x[held])
    return float(metrics.mean_absolute_error(y[held], guess))


def with_few_fits(model: Model) -> Model:
    """The model with TREES, where `init` chose boosting with its defaults, and without a refit: test_refit.py has it."""
    training = model.training
    if training.estimator == small_table.USUAL.estimator and not training.options:
        training = training.model_copy(update={"options": TREES})
    evaluation = model.evaluation.model_copy(update={"refit": False})
    return model.model_copy(update={"training": training, "evaluation": evaluation})


# Keys of `source` that only the snapshot reads.
READ_FROM = {"query", "files", "hook", "csv"}
# (the verdicts that stop, the metric) by what they are made of.
_JUDGED: dict[tuple[str, ...], tuple[list[str], float]] = {}


def judged(model: Model, files: Artifacts) -> tuple[list[str], float]:
    """(the verdicts that stop, the metric) of the stages after the snapshot, and of the gates.

    Several tables are read as the very same rows, with the same settings: a stage, whose input that is, runs on them once.
    """
    taken = sorted(path for path in files.folder.rglob("*") if path.is_file())
    contents = [f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in taken]
    said = model.model_dump_json(exclude={"source": READ_FROM, "description": True})
    made_of = (said, *contents)
    if made_of not in _JUDGED:
        for stage in list(stages.STAGES.values())[1:]:
            stage("table", model, files)
        found = gates.verdicts(model, files, None, None, False, False)
        metric = Evaluation.read(files.metrics).metrics[model.evaluation.metric]
        _JUDGED[made_of] = [str(verdict) for verdict in found if verdict.stops], metric
    return _JUDGED[made_of]


@pytest.mark.parametrize("name", TABLES)
def test_an_awkward_table_is_trained_well_or_refused_in_one_line(plain_project, name, monkeypatch):
    """`init` without an edit, then each stage with fewer trees, and each gate: nothing is silently wrong, or a traceback."""
    table, project = TABLES[name], plain_project
    monkeypatch.setenv("PERENNIAL_HOME", str(project / "home"))
    monkeypatch.setattr(small_table, "USUAL", replace(small_table.USUAL, options=TREES))
    (project / ".dvc").mkdir()
    (project / ".dvc" / "config").write_text("[core]\n    no_scm = true\n")
    data = table.write(project)
    request = Request("table", data, **({"target": "churned", "time": "seen_at"} | table.choices))
    if table.refused:
        with pytest.raises(PerennialError) as refused:
            init(request, project, False)
        line = str(refused.value)
        assert table.refused in line and "\n" not in line
        if table.by_hand is None:
            return
        # The way on that the line names.
        select = re.search(r'--data "((?:[^"\\]|\\.)*)"', line)
        assert select, line
        request = replace(request, data=select[1].replace('\\"', '"'))
    said = init(request, project, False)
    lines = [*map(str, said.draft.assumptions), *map(str, said.draft.left_out)]
    for part in table.said:
        assert any(part in line for line in lines), lines
    model, files = with_few_fits(load(project).model("table")), Artifacts(project, "table")
    files.folder.mkdir(parents=True)
    stages.snapshot("table", model, files)
    stopping, reached = judged(model, files)
    assert stopping == []
    metric = model.evaluation.metric
    features, target = table.by_hand()
    start = pd.Timestamp(model.held_out_from).tz_localize(None)
    best = by_hand(features, target, start, model.training.task, metric)
    print(name, metric, reached, best)
    if METRICS[metric].higher_is_better:
        assert reached > best - table.margin
    else:
        assert reached < best * (1 + table.margin)
