"""The deployer's service moves real slots as this process would."""

import threading
import time
from dataclasses import replace
from datetime import timedelta

import httpx
import pytest
import uvicorn

from harness.project import BODY
from pipeline.context import Context, utc_now
from pipeline.deployer import client as clients
from pipeline.deployer import traffic
from pipeline.deployer.api import LocalTraffic
from pipeline.deployer.service import Service
from pipeline.errors import RegistryError, SettingsError
from pipeline.ledger.timeline import live_at
from pipeline.monitoring.log_partitions import traffic_rows
from pipeline.rollout.prediction_folders import predictions_folder
from pipeline.runs.partition_profiles import groups, profile_group
from pipeline.settings.net import free_port
from tests.support.endpoint import LIMIT_S

KEY = "k" * 48


def counted_by(worker, endpoint):
    """What slots have logged until now has profiles, in the layout of the version that is live; the look that follows says how many requests."""
    asked, until = traffic(worker), time.monotonic() + LIMIT_S
    folder = predictions_folder(endpoint.home, "churn")
    # A partition's rows are golden requests' too; a slot writes those of `live` twice a second.
    while sum(traffic_rows(folder, {*folder.glob("*.parquet")}).values()) < 2:
        assert time.monotonic() < until
        time.sleep(0.1)
    told = [profile_group(worker, "r", "churn", group) for group in groups(worker, "churn")]
    assert told and sum(each["given"] for each in told) == sum(each["kept"] for each in told) > 0
    now, live = utc_now(), live_at(worker.ledger, "churn")
    look = asked.profile("churn", live.version, live.digest, now - timedelta(days=1), now + timedelta(days=1))
    assert look.logged >= 2


def test_real_slots_are_moved_through_it(endpoint):
    """Deploy, rollback, replace, status, reconcile, retire and undeploy work through the deployer's service, and a worker counts its log and asks what serves."""
    context, port = Context.here(), free_port()
    server = uvicorn.Server(
        uvicorn.Config(Service(context, LocalTraffic(context), KEY).app(), port=port, log_level="warning")
    )
    threading.Thread(target=server.run, daemon=True).start()
    environment = replace(context.environment, deployer=f"http://127.0.0.1:{port}", deployer_key=KEY)
    worker = replace(context, environment=environment)
    asked = traffic(worker)
    assert isinstance(asked, clients.RemoteTraffic)
    try:
        assert asked.deploy("r", "churn", "1", "", None, 0).version == "1"
        assert asked.deploy("r", "churn", "2", "", None, 0).previous == "1"
        assert endpoint.live()[0] == "2"
        assert asked.rollback("r", "churn", "").version == "1" and endpoint.live()[0] == "1"
        assert asked.replace("r", "churn", "", "9", "2").already and endpoint.live()[0] == "1"
        with pytest.raises(RegistryError, match="has no version 99"):
            asked.deploy("r", "churn", "99", "", None, 0)
        (status,) = asked.status("churn")
        assert status.live.version == "1" and status == LocalTraffic(context).status("churn")[0]
        counted_by(worker, endpoint)
        serving = asked.serving_system("churn", "onnx")
        assert serving.engine == endpoint.settings().engine and (serving.system is not None) is serving.has_image
        with pytest.raises(SettingsError, match="must be one of onnx, skops"):
            asked.serving_system("churn", "../onnx")
        assert asked.reconcile("r", ["churn"]) == [] and asked.retire("r", "churn") == []
        assert asked.undeploy("r", "churn", "its season is over").version == "1"
        assert endpoint.slots() == [] and asked.status("churn")[0].live is None
        assert httpx.post(f"{endpoint.address}/invocations", content=BODY).status_code == 404
        assert context.ledger.verify()[1] is None
    finally:
        server.should_exit = True
