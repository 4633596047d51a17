"""An exported version answers on a Python with onnxruntime and numpy alone as its slot does, and takes a newer one over under load."""

import json
import shutil
import subprocess
import time

import httpx
import pandas as pd
import pytest
from starlette.testclient import TestClient

from harness.load import steady_load, wait_for_answers
from harness.project import BODY, GOOD, bodies, customers
from pipeline.context import Context
from pipeline.errors import RegistryError
from pipeline.ledger.rollout_events import RolloutEnded
from pipeline.ledger.store import Ledger
from pipeline.runs import edge_export
from pipeline.serving.app import App
from pipeline.serving.identity import Identity
from pipeline.serving.runtime import Runtime
from pipeline.serving.settings import Settings
from pipeline.settings.environment import Environment
from pipeline.training.signing import SigningKey
from tests.support.edge import Runner, bare_python
from tests.unit.test_tasks import built, model_of, rows_of

V2 = {"spend": "FP64", "calls": "INT64", "plan": "BYTES"}


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    return bare_python(tmp_path_factory.mktemp("edge") / "venv")


class Signed:
    """A registry whose every version has that package."""

    def __init__(self, package, home):
        self.package, self.key = package, SigningKey(home)

    def deployable_package(self, model, version, digest):
        return self.package


@pytest.fixture
def context(tmp_path, project, churn_package):
    home = tmp_path / "home"
    made = Context(Environment.read().at(project, home), Ledger(f"sqlite:///{home / 'ledger.db'}"))
    made.__dict__["registry"] = Signed(churn_package, home)
    made.ledger.append(RolloutEnded(version="3", slot="blue", digest="d"), "churn")
    return made


@pytest.fixture
def folder(context, tmp_path):
    edge_export.export(context, "churn", "", tmp_path / "edge")
    return tmp_path / "edge"


@pytest.fixture
def runner(python, folder):
    with Runner(python, folder) as started:
        started.says("churn version 3 on http")
        yield started


def test_it_answers_as_the_slots_code_does(runner, folder, churn_package, python):
    """JSON, CSV, v2 and the function give the package's numbers; what breaks the contract, or is no JSON, is refused in the slot's words."""
    rows = customers().head(100)[["spend", "calls", "plan"]]
    expected = Runtime.load(churn_package).predict_frame(rows).tolist()
    records = rows.astype(object).where(rows.notna(), None).to_dict("records")
    answer = httpx.post(f"{runner.address}/invocations", json={"dataframe_records": records})
    assert answer.json() == {"predictions": expected}
    assert answer.headers["x-model-version"] == "3"
    csv = httpx.post(
        f"{runner.address}/invocations", content=rows.to_csv(index=False), headers={"content-type": "text/csv"}
    )
    assert csv.json() == {"predictions": expected}
    inputs = [{"name": n, "datatype": t, "shape": [1], "data": [GOOD[n]]} for n, t in V2.items()]
    v2 = httpx.post(f"{runner.address}/v2/models/churn/infer", json={"inputs": inputs}).json()
    assert v2["outputs"][0]["data"] == httpx.post(f"{runner.address}/invocations", content=BODY).json()["predictions"]
    refused = httpx.post(f"{runner.address}/invocations", json={"dataframe_records": [GOOD, {**GOOD, "spend": -1}]})
    assert (refused.status_code, refused.json()["error"].split(":")[0]) == (400, "row 1")
    assert "column spend" in refused.json()["error"]
    assert httpx.post(f"{runner.address}/invocations", content=b"{").status_code == 400
    assert httpx.get(f"{runner.address}/v2/health/ready").status_code == 200
    code = f"import json, serve; print(json.dumps(serve.load().predict({records[:5]!r})))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True, cwd=folder)
    assert json.loads(done.stdout) == expected[:5]


def test_class_names_are_in_the_answers_of_both_protocols(python, context, tmp_path):
    """Three classes, told by the age of a date at the event time or the receipt, have the same shares at the edge as in the slot's code."""
    model = model_of(numeric=["calls", "spend"], datetime=["since"], calendar=["age"], options={"max_iter": 5})
    model = model.model_copy(update={"evaluation": model.evaluation.model_copy(update={"explain": True})})
    (tmp_path / "made").mkdir()
    rows = rows_of(model)
    ages = pd.to_timedelta(rows["kind"].map({"low": 1.5, "mid": 4.5, "high": 7.5}), unit="D")
    built(tmp_path / "made", model, rows.assign(since=rows["seen_at"] - ages))
    context.registry.package = tmp_path / "made" / "package"
    runtime = Runtime.load(context.registry.package)
    slot = TestClient(App(runtime, None, Identity("churn", "3", "blue"), Settings()))
    edge_export.export(context, "churn", "", tmp_path / "edge")
    row = {"spend": 80.0, "calls": 2, "plan": "plus", "since": "2024-02-10", "seen_at": "2024-02-14T12:00:00Z"}
    v2 = {"inputs": [{"name": n, "datatype": V2.get(n, "BYTES"), "shape": [1], "data": [row[n]]} for n in row]}
    timeless = {name: row[name] for name in ("spend", "calls", "plan", "since")}
    asked = {"/invocations": {"dataframe_records": [row]}, "/v2/models/churn/infer": v2}
    with Runner(python, tmp_path / "edge") as runner:
        runner.says("churn version 3 on http")
        said = {path: httpx.post(f"{runner.address}{path}", json=body).json() for path, body in asked.items()}
        asks = asked["/invocations"] | {"explain": True}
        explained = httpx.post(f"{runner.address}/invocations", json=asks).json()
        received = httpx.post(f"{runner.address}/invocations", json={"dataframe_records": [timeless]}).json()
    (shares,) = said["/invocations"]["predictions"]
    assert list(shares) == ["high", "low", "mid"] and sum(shares.values()) == pytest.approx(1)
    assert max(shares, key=shares.get) == "mid"
    (old,) = received["predictions"]
    assert max(old, key=old.get) == "high"
    assert slot.post("/invocations", json={"dataframe_records": [timeless]}).json() == received
    assert slot.post("/invocations", json=asks).json() == explained and explained["explanations"][0]["class"] == "mid"
    outputs = {output["name"]: output["data"] for output in said["/v2/models/churn/infer"]["outputs"]}
    assert outputs == {"class": [max(shares, key=shares.get)], "probabilities": [*shares.values()]}
    for path, body in asked.items():
        from_slot = slot.post(path, json=body).json()
        assert {k: v for k, v in from_slot.items() if k != "id"} == {k: v for k, v in said[path].items() if k != "id"}


def test_weighed_words_are_answered_as_in_the_slots_code(python, context, tmp_path):
    """A linear model with `training.word_weights: tf_idf` learns its weights in its package, and the edge needs no text library for them."""
    words = {"text": ["note"], "words": 32, "word_weights": "tf_idf"}
    model = model_of(estimator="linear", options={}, **words)
    (tmp_path / "made").mkdir()
    rows = rows_of(model)
    notes = rows["kind"].map({"low": "few calls", "mid": "some calls, and more", "high": "calls all day"})
    built(tmp_path / "made", model, rows.assign(note=notes.where(rows.index % 9 > 0, None)))
    context.registry.package = tmp_path / "made" / "package"
    edge_export.export(context, "churn", "", tmp_path / "edge")
    slot = TestClient(App(Runtime.load(context.registry.package), None, Identity("churn", "3", "blue"), Settings()))
    records = [{**GOOD, "note": note} for note in ("few calls", "calls all day, ALL day", "", None, "new words")]
    code = f"import json, serve; print(json.dumps(serve.load().predict({records!r})))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path / "edge")
    said = slot.post("/invocations", json={"dataframe_records": records}).json()["predictions"]
    assert json.loads(done.stdout) == said and len({json.dumps(each) for each in said}) > 2


def test_a_changed_byte_is_refused_by_its_name(python, folder):
    """A file of the package or of the code in which one byte differs, or one more file, is named, and nothing is served."""
    version = folder / (folder / "current").readlink()
    for name in ("package/model.onnx", "code/pipeline/serving/schema/reader.py", "export.json"):
        content = (version / name).read_bytes()
        (version / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        runner = Runner(python, folder)
        said = runner.process.communicate(timeout=60)[0]
        assert runner.process.returncode == 1
        assert f"refused: {version / name}: is not what" in said
        (version / name).write_bytes(content)
    (version / "code" / "numpy.py").write_text("")
    said = Runner(python, folder).process.communicate(timeout=60)[0]
    assert "numpy.py: is not in the export" in said


def test_another_key_is_refused(python, folder, context, tmp_path):
    """A runner that is told the key of `export` serves no folder that another key signed; a folder takes one key's exports of one model."""
    own = context.registry.key.public()
    assert edge_export.export(context, "churn", "", folder).key == own
    context.registry.key = SigningKey(tmp_path / "other")
    edge_export.export(context, "churn", "", tmp_path / "forged")
    said = Runner(python, tmp_path / "forged", "--key", own).process.communicate(timeout=60)[0]
    assert f"trusts the key {own[:16]}… of --key" in said and "export.json: is not what the key" in said
    with pytest.raises(RegistryError, match="has exports that another key signed"):
        edge_export.export(context, "churn", "", folder)
    with pytest.raises(RegistryError, match="has exports of the model churn; name another folder by --to"):
        edge_export.export(context, "other", "1", tmp_path / "forged")
    with pytest.raises(
        RegistryError, match="key.pub: cannot be written .*; name a folder that you may write to by --to"
    ):
        edge_export.export(context, "churn", "", folder / "key.pub")


def test_a_folder_of_somebodys_own_gets_no_export(context, tmp_path):
    """A serve.py that is not ours stays, and so does the order of a folder; an export that was cut off is made again in its folder."""
    own = tmp_path / "own"
    own.mkdir()
    (own / ".git").mkdir()
    (own / "serve.py").write_text("mine")
    with pytest.raises(RegistryError, match="own: has other files than exports, serve.py for one; name a new folder"):
        edge_export.export(context, "churn", "", own)
    assert [path.name for path in own.rglob("*") if path.is_file()] == ["serve.py"]
    (own / "serve.py").unlink()
    (own / "versions").mkdir()
    assert edge_export.export(context, "churn", "", own).folder == str(own)
    (own / "notes.txt").write_text("beside it, later")
    assert edge_export.export(context, "churn", "", own).version == "3"


def test_newer_exports_are_taken_over_without_a_lost_request(runner, folder, context):
    """Under load three newer versions follow each other, and one that is not whole yet is refused until it is: no request fails."""
    with steady_load(runner.address, bodies(50), pace=100) as load:
        wait_for_answers(load, "3")
        for version in ("4", "5", "6"):
            edge_export.export(context, "churn", version, folder)
            runner.says(f"churn version {version} on http")
            wait_for_answers(load, version)
        broken = folder / "versions" / "7-broken"
        last = folder / (folder / "current").readlink()
        shutil.copytree(last, broken)
        (broken / "package" / "model.onnx").write_bytes(b"no model")
        (folder / "next").symlink_to("versions/7-broken")
        (folder / "next").replace(folder / "current")
        assert "model.onnx" in runner.says("refused: ")
        time.sleep(0.3)
        shutil.copyfile(folder / "versions" / last.name / "package" / "model.onnx", broken / "package" / "model.onnx")
        runner.says("churn version 6 on http")
    assert (load.failed, load.failures) == (0, [])
    assert set(load.versions) == {"3", "4", "5", "6"}
    assert httpx.get(f"{runner.address}/version").json()["version"] == "6"


def test_a_skops_model_is_refused_in_one_line(context, churn_package, tmp_path):
    """A version that ONNX cannot hold is refused, with what to do."""
    package = tmp_path / "skops"
    shutil.copytree(churn_package, package)
    manifest = json.loads((package / "manifest.json").read_text())
    (package / "manifest.json").write_text(json.dumps({**manifest, "runtime": "skops"}))
    context.registry.package = package
    with pytest.raises(RegistryError, match="version 3 is served by skops") as refused:
        edge_export.export(context, "churn", "", tmp_path / "edge")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "edge").exists()
