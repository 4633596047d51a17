"""The golden requests of a package, sent to a slot in this process that serves the same package or another one."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from pipeline.rollout import probe
from pipeline.rollout.engines.base import Running
from pipeline.serving.app import App
from pipeline.serving.identity import Identity
from pipeline.serving.runtime import Runtime


def golden_answers(served: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """What the golden requests of `folder` say about a slot that serves the package `served`."""
    client = TestClient(App(Runtime.load(served), None, Identity("churn", "1", "blue")))

    def post(url: str, json: object, headers: dict[str, str], **_: object) -> object:
        return client.post("/invocations", json=json, headers=headers)

    monkeypatch.setattr(probe.httpx, "post", post)
    return probe.check_golden_requests(Running("churn", "blue", "1", "http://slot", "process"), folder, {})
