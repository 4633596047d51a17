"""The servers that a user would run instead, each with the flight model that our stages fitted, each with one worker.

`mlflow models serve` runs from our environment and its registry. MLServer and BentoML are installed into an environment of
their own (requirements/peers.txt); they load the model from a joblib file, which is copied from skops.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.flights import MODEL, Flights, served
from pipeline.serving.trusted import TRUSTED_TYPES
from pipeline.settings.environment import Environment
from pipeline.settings.net import free_port

Rows = list[dict[str, Any]]
# One thread a prediction, as in our server. With a thread a core scikit-learn's threads wait for each other, which few rows do not repay.
ONE_THREAD = {"OMP_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Peer:
    """A server that answers at `path`: `body` writes a request, `answers` reads the prediction of each row from its answer."""

    name: str
    port: int
    path: str
    body: Callable[[Rows], bytes]
    answers: Callable[[Any], list[float]]


def records(rows: Rows) -> bytes:
    """A request body as MLflow and our server take it."""
    return json.dumps({"dataframe_records": rows}).encode()


@contextmanager
def mlflow(flights: Flights, folder: Path) -> Iterator[Peer]:
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", f"models:/{MODEL}/1", "--env-manager", "local"]
    command += ["--workers", "1", "--host", "127.0.0.1", "--port", str(port)]
    env = {"MLFLOW_TRACKING_URI": flights.registry.uri, "MLFLOW_DISABLE_TELEMETRY": "true", **ONE_THREAD}
    with served(command, f"http://127.0.0.1:{port}/ping", _new_folder(folder / "mlflow"), env):
        yield Peer("mlflow models serve", port, "/invocations", records, lambda answer: answer["predictions"])


@contextmanager
def mlserver(flights: Flights, folder: Path) -> Iterator[Peer]:
    """MLServer with its default, one process for HTTP and one that predicts; without its debug mode, which logs requests."""
    port, home = free_port(), _new_folder(folder / "mlserver")
    _as_joblib(flights, home)
    implementation = {"name": MODEL, "implementation": "mlserver_sklearn.SKLearnModel"}
    settings = {"http_port": port, "grpc_port": free_port(), "metrics_port": free_port(), "host": "127.0.0.1"}
    settings |= {"debug": False, "parallel_workers": 1}
    (home / "settings.json").write_text(json.dumps(settings))
    (home / "model-settings.json").write_text(json.dumps({**implementation, "parameters": {"uri": "./model.joblib"}}))
    with served(
        [_program("mlserver"), "start", "."], f"http://127.0.0.1:{port}/v2/models/{MODEL}/ready", home, ONE_THREAD
    ):
        yield Peer(
            "MLServer", port, f"/v2/models/{MODEL}/infer", tensors, lambda answer: answer["outputs"][0]["data"][1::2]
        )


def tensors(rows: Rows, output: str = "predict_proba") -> bytes:
    """A request body of the Open Inference Protocol for one output, with MLServer's content type for a data frame."""

    def tensor(name: str) -> dict[str, Any]:
        values, text = [row[name] for row in rows], isinstance(rows[0][name], str)
        column = {"name": name, "shape": [len(rows), 1], "datatype": "BYTES" if text else "FP64", "data": values}
        return {**column, "parameters": {"content_type": "str"}} if text else column

    request = {"parameters": {"content_type": "pd"}, "inputs": [tensor(name) for name in rows[0]]}
    return json.dumps({**request, "outputs": [{"name": output}]}).encode()


BENTO = """
import bentoml, joblib, pandas as pd

@bentoml.service(workers=1)
class Flights:
    def __init__(self):
        self.model = joblib.load("model.joblib")
        self.numbers = [c for name, _, columns in self.model[0].transformers_ if name == "numeric" for c in columns]

    @bentoml.api
    def predict(self, rows: list[dict]) -> list[float]:
        frame = pd.DataFrame(rows)
        return self.model.predict_proba(frame.astype(dict.fromkeys(self.numbers, "float32")))[:, 1].tolist()
"""


@contextmanager
def bentoml(flights: Flights, folder: Path) -> Iterator[Peer]:
    port, home = free_port(), _new_folder(folder / "bentoml")
    _as_joblib(flights, home)
    (home / "service.py").write_text(BENTO)
    command = [_program("bentoml"), "serve", "service:Flights", "--host", "127.0.0.1", "--port", str(port)]
    env = {"BENTOML_HOME": str(home / "home"), "BENTOML_DO_NOT_TRACK": "True", **ONE_THREAD}
    with served(command, f"http://127.0.0.1:{port}/readyz", home, env):
        yield Peer("BentoML", port, "/predict", lambda rows: json.dumps({"rows": rows}).encode(), list)


def _new_folder(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def _program(name: str) -> str:
    """The path of a program of the peers' environment, which is set up when it is missing."""
    folder = Environment.read().project / ".perennial" / "peers"
    requirements, installed = Environment.read().project / "requirements" / "peers.txt", folder / "installed.txt"
    if not installed.is_file() or installed.read_bytes() != requirements.read_bytes():
        print("setting up the peers' environment (about a minute; once)")
        uv = [sys.executable, "-m", "uv"]
        subprocess.run([*uv, "venv", "-q", "--clear", "--python", sys.executable, str(folder)], check=True)
        install = [*uv, "pip", "install", "-q", "--python", str(folder), "--require-hashes", "--compile-bytecode"]
        subprocess.run([*install, "-r", str(requirements)], check=True)
        installed.write_bytes(requirements.read_bytes())
    return str(folder / "bin" / name)


def _as_joblib(flights: Flights, folder: Path) -> None:
    # What MLflow has gives one number a row; the peers get the classifier in it, whose probabilities they answer.
    copy = (
        "import sys, joblib, skops.io; model = skops.io.load(sys.argv[1], trusted=sys.argv[3:]);"
        " joblib.dump(model['probability'].estimators_[0] if 'probability' in model.named_steps else model, sys.argv[2])"
    )
    arguments = [str(flights.skops), str(folder / "model.joblib"), *TRUSTED_TYPES]
    subprocess.run([_program("python"), "-c", copy, *arguments], check=True)
