"""What MLflow's REST API says of a live version, and the line for each thing that does not agree."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from pipeline.errors import RegistryAwayError
from pipeline.registry.held import Held, Rest, held
from pipeline.rollout import registry_agreement

AGREES = Held(True, True, "1", run="r1", run_state="active", experiment="7", experiment_state="active")
# As MLflow 3.17 answers.
WHOLE = {
    "registered-models/get": {
        "registered_model": {"name": "churn", "aliases": [{"alias": "champion", "version": "1"}]}
    },
    "model-versions/get": {"model_version": {"run_id": "r1", "tags": [{"key": "k", "value": "v"}]}},
    "runs/get": {"run": {"info": {"run_id": "r1", "lifecycle_stage": "active"}}},
    "experiments/get-by-name": {"experiment": {"experiment_id": "7", "lifecycle_stage": "active"}},
}


@pytest.fixture
def mlflow():
    """(the answers of a server, its URL, what it was asked): what it does not have is a 404 as MLflow's; an answer of None never comes."""
    answers, questions, over = dict(WHOLE), [], threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked = urlsplit(self.path)
            what = asked.path.removeprefix("/api/2.0/mlflow/")
            questions.append(what)
            assert parse_qs(asked.query)
            if what in answers and answers[what] is None:
                over.wait(60)
                return
            body = json.dumps(answers.get(what, {"error_code": "RESOURCE_DOES_NOT_EXIST"})).encode()
            self.send_response(200 if what in answers else 404)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield answers, f"http://127.0.0.1:{server.server_port}", questions
    over.set()
    server.shutdown()
    server.server_close()


def seen(uri, another=False):
    return held(Rest(uri), "churn", "1", lambda tags: another and tags == {"k": "v"})


def test_the_facts_come_from_mlflows_rest_api(mlflow):
    """Alias, version, run and experiment are read; what there is not is missing, and no error."""
    answers, uri, _ = mlflow
    assert seen(uri) == AGREES
    assert seen(uri, another=True).is_another
    del answers["runs/get"], answers["experiments/get-by-name"]
    assert (seen(uri).run_state, seen(uri).experiment_state) == ("missing", "missing")
    del answers["model-versions/get"]
    assert (seen(uri).has_model, seen(uri).has_version) == (True, False)
    del answers["registered-models/get"]
    assert (seen(uri).has_model, seen(uri).champion) == (False, None)


@pytest.mark.parametrize("answer", [None, {"error": "of another kind"}, ["no object"]])
def test_a_server_that_hangs_or_answers_otherwise_is_away(mlflow, answer, monkeypatch):
    """An MLflow that hangs, or whose answer is none of MLflow's, is asked once."""
    answers, uri, questions = mlflow
    monkeypatch.setattr("pipeline.registry.held.LIMIT_S", 0.2)
    answers["registered-models/get"] = answer
    with pytest.raises(RegistryAwayError, match="does not answer"):
        seen(uri)
    assert questions == ["registered-models/get"]


def test_a_run_that_is_gone_for_good_is_no_run_to_restore():
    """A run that MLflow no longer has cannot be restored: the line says how a new version comes."""
    gone = Held(True, True, "1", run="r1", run_state="missing", experiment="7", experiment_state="active")
    assert registry_agreement.lines("churn", "1", AGREES, "uri") == []
    assert registry_agreement.lines("churn", "1", gone, "uri") == [
        "churn: MLflow no longer has run r1 of version 1, which is live and goes on; "
        "bring a new version live: `perennial retrain churn --deploy`"
    ]
