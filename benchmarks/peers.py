"""The servers that one would run instead, each with the flight model that our stages fitted, each with one worker.

`mlflow models serve` runs from our own environment and its registry. MLServer and BentoML are installed into one of
their own (requirements/peers.txt); for them the model is copied from skops to the joblib file that they load.
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
# As our server's: a thread a prediction. With one a core scikit-learn's threads wait for each other, and few rows gain nothing.
ONE_THREAD = {"OMP_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Peer:
    """A server that answers at `path`: how it is asked, and what it says of each row."""

    name: str
    port: int
    path: str
    body: Callable[[Rows], bytes]
    answers: Callable[[Any], list[float]]


def records(rows: Rows) -> bytes:
    """As MLflow is asked, and as we are."""
    return json.dumps({"dataframe_records": rows}).encode()


@contextmanager
def mlflow(flights: Flights, folder: Path) -> Iterator[Peer]:
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", f"models:/{MODEL}/1", "--env-manager", "local"]
    command += ["--workers", "1", "--host", "127.0.0.1", "--port", str(port)]
    env = {"MLFLOW_TRACKING_URI": flights.registry.uri, "MLFLOW_DISABLE_TELEMETRY": "true", **ONE_THREAD}
    with served(command, f"http://127.0.0.1:{port}/ping", _made(folder / "mlflow"), env):
        yield Peer(
            "mlflow models serve", port, "/invocations", records, lambda told: [p[1] for p in told["predictions"]]
        )


@contextmanager
def mlserver(flights: Flights, folder: Path) -> Iterator[Peer]:
    """Its default is one process that speaks HTTP and one that predicts; without its debug mode, which logs requests."""
    port, at = free_port(), _made(folder / "mlserver")
    _as_joblib(flights, at)
    implementation = {"name": MODEL, "implementation": "mlserver_sklearn.SKLearnModel"}
    settings = {"http_port": port, "grpc_port": free_port(), "metrics_port": free_port(), "host": "127.0.0.1"}
    settings |= {"debug": False, "parallel_workers": 1}
    (at / "settings.json").write_text(json.dumps(settings))
    (at / "model-settings.json").write_text(json.dumps({**implementation, "parameters": {"uri": "./model.joblib"}}))
    with served(
        [_program("mlserver"), "start", "."], f"http://127.0.0.1:{port}/v2/models/{MODEL}/ready", at, ONE_THREAD
    ):
        yield Peer(
            "MLServer", port, f"/v2/models/{MODEL}/infer", tensors, lambda told: told["outputs"][0]["data"][1::2]
        )


def tensors(rows: Rows) -> bytes:
    """The Open Inference Protocol, with MLServer's word for what becomes a data frame."""

    def tensor(name: str) -> dict[str, Any]:
        values, text = [row[name] for row in rows], isinstance(rows[0][name], str)
        told = {"name": name, "shape": [len(rows), 1], "datatype": "BYTES" if text else "FP64", "data": values}
        return {**told, "parameters": {"content_type": "str"}} if text else told

    asked = {"parameters": {"content_type": "pd"}, "inputs": [tensor(name) for name in rows[0]]}
    return json.dumps({**asked, "outputs": [{"name": "predict_proba"}]}).encode()


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
    port, at = free_port(), _made(folder / "bentoml")
    _as_joblib(flights, at)
    (at / "service.py").write_text(BENTO)
    command = [_program("bentoml"), "serve", "service:Flights", "--host", "127.0.0.1", "--port", str(port)]
    env = {"BENTOML_HOME": str(at / "home"), "BENTOML_DO_NOT_TRACK": "True", **ONE_THREAD}
    with served(command, f"http://127.0.0.1:{port}/readyz", at, env):
        yield Peer("BentoML", port, "/predict", lambda rows: json.dumps({"rows": rows}).encode(), list)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def _program(name: str) -> str:
    """A program of the peers' environment, which is made when it is not there."""
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
    copy = "import sys, joblib, skops.io; joblib.dump(skops.io.load(sys.argv[1], trusted=sys.argv[3:]), sys.argv[2])"
    arguments = [str(flights.skops), str(folder / "model.joblib"), *TRUSTED_TYPES]
    subprocess.run([_program("python"), "-c", copy, *arguments], check=True)
