"""The whole compose file on a real engine, from images that are built here: what a server does, and what it survives.

The tests share one server. The versions that they start from are fixtures, so that each runs alone too; what is live answers
under load through all that is done to the rest. The last test destroys everything and restores a backup.
"""

import json
import shutil
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import httpx
import psutil
import pytest

from harness.compose import NAME, OTHER, Server, env_of, loopback_only, service_of
from harness.load import steady_load
from harness.project import BODY
from pipeline.deployer import tokens
from pipeline.settings.net import free_port
from tests.support.required import EXHAUSTIVE
from tests.support.server_story import (
    Retrained,
    are_kept_and_told,
    ask_for_service_levels,
    has_landed_beside_the_training,
    live_at_last,
    only,
    version_of,
    wait_until_live,
)

pytestmark = pytest.mark.timeout(1500)


def succeeded(told):
    """Whether all tasks did; those that would count what has landed are skipped where the stage counts it itself."""
    others = {name: task["state"] for name, task in told.items() if task["state"] != "success"}
    return others in ({}, {"profile_landed": "skipped"})


def processes(server: Server, containers: dict[str, dict]) -> list[str]:
    """Their command lines, as anybody on the machine can list them."""
    ids = [c["Id"] for n, c in containers.items() if n != "init"]
    return [line for one in ids for line in server.run(["docker", "top", one, "-eo", "pid,args"]).stdout.splitlines()]


def chain_is_whole(server: Server) -> bool:
    return server.ask("verify")["intact"]


@contextmanager
def a_run_under_load(server: Server, as_of: str) -> Iterator[str]:
    """A retrain during which something is done to the server: its version goes live, no request fails, the chain is whole."""
    before = version_of(server)
    with steady_load(server.address, BODY, pace=50) as tally:
        run = server.retrain(as_of)
        yield run
        told = server.finish(run)
    assert succeeded(told), told
    assert tally.failed == 0, tally.failures[:3]
    version = server.events("version_registered")[-1]["version"]
    assert live_at_last(server, version)[0] == version != before
    assert chain_is_whole(server)
    server.wait_healthy()


def test_1_all_is_healthy_and_nothing_more_is_open_than_must_be(server: Server):
    """All services are healthy, none runs as root, ports are on loopback, and each secret is where it is needed only."""
    containers = {service_of(c): c for c in server.containers()}
    assert len(server.workers) == 2 and not server.not_healthy()
    assert all(loopback_only(c) for c in containers.values())
    with_socket = [n for n, c in containers.items() if any("docker.sock" in m["Source"] for m in c["Mounts"])]
    assert with_socket == ["deployer"]
    # By what runs in it, not by what the file says.
    users = {
        n: server.run(["docker", "top", c["Id"], "-eo", "pid,uid"]).stdout.split()[3::2]
        for n, c in containers.items()
        if n != "init"
    }
    assert all(uid != "0" for uids in users.values() for uid in uids), users
    told = env_of(server.folder)
    assert stat.S_IMODE((server.folder / ".env").stat().st_mode) == 0o600
    known = {told[name] for name in told if name.endswith(("PASSWORD", "SECRET", "SEED"))}
    assert not [line for line in processes(server, containers) if any(secret in line for secret in known)]
    signers = {n for n, c in containers.items() if any("PERENNIAL_SIGNING_SEED" in e for e in c["Config"]["Env"])}
    assert signers == {"worker", "deployer"}
    secrets = [value for name, value in told.items() if name.endswith(("PASSWORD", "SECRET", "KEY", "SEED"))]
    assert len(secrets) >= 12 and len(set(secrets)) == len(secrets) and all(len(s) >= 20 for s in secrets)
    assert {m["Name"] for m in containers["postgres"]["Mounts"]} == {"perennial-test_postgres"}
    for name, told in ((n, c["HostConfig"]) for n, c in containers.items()):
        assert told["Memory"] > 0 and told["LogConfig"]["Config"]["max-size"] == "10m", name
        assert told["RestartPolicy"]["Name"] == ("no" if name == "init" else "unless-stopped"), name


def test_2_a_runs_steps_alternate_between_workers_that_share_no_disk(server: Server, first_release: Retrained):
    """A run whose steps alternate between two workers without a shared disk goes live."""
    tasks, (one, two) = first_release.tasks, first_release.workers
    assert succeeded(tasks), tasks
    # Of the task that only waits for others no worker knows.
    at = {name: task["hostname"] for name, task in tasks.items() if name not in ("", "landed_profiled")}
    assert at == {name: two if name in OTHER else one for name in at}
    assert first_release.live == ("1", "blue")
    mounts = [
        {m.get("Name") or m["Source"] for m in c["Mounts"] if m["RW"]}
        for c in server.containers()
        if service_of(c) == "worker"
    ]
    assert not set.intersection(*mounts)
    kept = [e for e in server.ask("timeline", "churn")["events"] if e["kind"] == "run_settled"]
    assert "went live" in kept[-1]["details"]["outcome"] and chain_is_whole(server)


def test_3_the_next_version_goes_live_under_load_without_a_failed_request(server: Server, second_release: Retrained):
    """The next version goes live through Airflow without a failed request."""
    tally = second_release.load
    assert tally is not None
    assert succeeded(second_release.tasks), second_release.tasks
    assert second_release.live == ("2", "green")
    assert tally.failed == 0, tally.failures[:3]
    assert set(tally.versions) == {"1", "2"} and tally.sent > 500
    (status,) = server.ask("status", "churn")
    assert status["live"]["version"] == "2" and status["live"]["answers"] and status["previous"]["warm"]
    for kind in ("deployer_called", "deployer_answered"):
        assert {told["verb"] for told in server.events(kind)} >= {"deploy", "retire"}


def test_4_the_monitor_sees_the_log_and_its_report_is_read_elsewhere(server: Server, second_release: Retrained):
    """Workers count what has landed beside the training, and the deployer's prediction log for the monitor; the page shows its report from MLflow."""
    assert server.airflow is not None
    has_landed_beside_the_training(server, second_release)
    run = server.airflow.trigger(
        "monitor__churn", as_of=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 60))
    )
    until = time.monotonic() + 300
    while server.airflow.run("monitor__churn", run)["state"] not in ("success", "failed"):
        assert time.monotonic() < until
        time.sleep(0.5)
    assert server.airflow.run("monitor__churn", run)["state"] == "success"
    mapped = [task for task in server.airflow.tasks("monitor__churn", run) if task["map_index"] >= 0]
    assert {(task["task_id"], task["state"]) for task in mapped} == {("profile_partitions", "success")}
    assert mapped[0]["rendered_map_index"].startswith("1 of "), mapped
    assert {told["verb"] for told in server.events("deployer_called")} >= {"log_files", "take_profiles"}
    checked = [e for e in server.ask("timeline", "churn")["events"] if e["kind"] == "drift_checked"][-1]["details"]
    assert second_release.load is not None
    assert checked["rows_now"] >= second_release.load.versions["2"] > 0
    # No later test asks for mapped tasks, which would take a task's time in each of their runs.
    server.change_params("models.churn.monitor.mapped_rows", 5_000_000)
    name = checked["report"].rpartition("/")[2]
    page = server.airflow._http.get(f"/perennial/reports/churn/{name}")
    assert page.status_code == 200 and "html" in page.headers["content-type"] and "times its limit" in page.text
    assert "version" in server.airflow._http.get("/perennial/").text


def test_5_prometheus_sees_router_and_slots(server: Server, second_release: Retrained):
    """Prometheus scrapes router and slots, its rules and those of objectives load; the deployer's checks are told on a worker."""
    url = f"http://127.0.0.1:{env_of(server.folder)['PROMETHEUS_PORT']}/api/v1"
    until = time.monotonic() + 120
    while True:
        found = httpx.get(f"{url}/targets").json()["data"]["activeTargets"]
        up = {(t["labels"]["job"], t["labels"].get("role")) for t in found if t["health"] == "up"}
        if up == {("traefik", None), ("prometheus", None), ("slots", "live"), ("slots", "previous")}:
            break
        assert time.monotonic() < until, found
        time.sleep(1)
    rules = [r for g in httpx.get(f"{url}/rules").json()["data"]["groups"] for r in g["rules"]]
    assert len(rules) >= 7 and all(r["health"] in ("ok", "unknown") for r in rules)
    server.compose("exec", "-T", "prometheus", "promtool", "test", "rules", "/etc/perennial/rules_test.yaml")
    asked = httpx.get(f"{url}/query", params={"query": 'perennial:answers:rate5m{model="churn", code="200"}'}).json()
    assert len(asked["data"]["result"]) == 1
    asked = httpx.get(f"{url}/query", params={"query": 'sum(perennial_predictions_total{model="churn"})'}).json()
    assert float(asked["data"]["result"][0]["value"][1]) > 500
    ask_for_service_levels(server, url)
    are_kept_and_told(server)


def test_6_a_worker_is_killed_in_training_and_the_deployer_in_the_rollout(server: Server, first_release: Retrained):
    """A run goes live though its worker is killed in training and the deployer in the rollout."""
    before, rollouts, old = version_of(server), len(server.events("rollout_ended")), "$AIRFLOW_HOME/logs/old.log"
    # Before the run: a step on these few rows may end while a worker is asked for something else.
    for worker in server.workers:
        server.run(["docker", "exec", worker, "sh", "-c", f"touch -d '40 days ago' {old}"])
    with a_run_under_load(server, "2024-02-27T00:00:00Z") as run:
        victim = server.wait_for(run, "train")["hostname"]
        server.run(["docker", "kill", victim])
        # Half a minute without a heartbeat, then a try elsewhere.
        server.wait_for(run, "roll_out", limit_s=600)
        until = time.monotonic() + 120
        while version_of(server) == before:  # the route has moved, the bake goes on
            assert time.monotonic() < until
            time.sleep(0.02)
        server.kill("deployer")
        train = next(task for task in server.tasks(run) if task["task_id"] == "train")
        assert train["hostname"] != victim and train["try_number"] > 1
        server.finish(run)
        server.run(["docker", "start", victim])
    server.run(["docker", "exec", victim, "sh", "-c", f"! test -e {old} && ls $AIRFLOW_HOME/logs"])
    assert len(server.events("rollout_ended")) == rollouts + 1


def test_7_postgres_and_redis_are_restarted_and_mlflow_is_down_when_it_is_asked(
    server: Server, first_release: Retrained
):
    """A run goes live through restarts of Postgres and Redis, and tries again after MLflow was away."""
    with a_run_under_load(server, "2024-02-28T00:00:00Z") as run:
        server.wait_for(run, "snapshot")
        server.compose("restart", "-t", "5", "postgres", "redis")
        server.wait_for(run, "evaluate")
        server.compose("stop", "-t", "2", "mlflow")
        # The first step that asks MLflow fails, and is to be tried again.
        server.wait_for(run, "check_gates", state="up_for_retry")
        if EXHAUSTIVE:
            time.sleep(60)
        server.compose("start", "mlflow")


def test_8_a_worker_whose_disk_is_full_says_so_in_one_line(server: Server, first_release: Retrained):
    """A worker with a full disk fails the run with one line, and what is live stays live."""
    live = server.live()
    one, two = server.workers
    pid = json.loads(server.run(["docker", "inspect", one]).stdout)[0]["State"]["Pid"]
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=777", "full", "/var/lib/perennial/workspaces"]
    server.run(["nsenter", "-t", str(pid), "-m", *mount])
    with (
        steady_load(server.address, BODY, pace=50) as tally,
        only(server, one, "default", "other"),
        only(server, two),
    ):
        told = server.finish(run := server.retrain("2024-03-01T12:00:00Z"))
    server.run(["nsenter", "-t", str(pid), "-m", "umount", "/var/lib/perennial/workspaces"])
    assert told[""]["state"] == "failed" and tally.failed == 0 and live_at_last(server, live[0]) == live
    assert server.airflow is not None
    said = server.airflow.log("retrain__churn", run, "open_workspace", told["open_workspace"]["try_number"])
    (line,) = {line for line in said.splitlines() if line.endswith("check the free space of its disk")}
    assert "unable to write file" in line or "No space left on device" in line
    assert chain_is_whole(server)


def test_9_the_deployer_starts_nothing_but_what_was_signed(server: Server, first_release: Retrained):
    """The deployer refuses unknown calls, wrong or used tokens and unsigned versions, and slots reach no database."""
    key = env_of(server.folder)["PERENNIAL_DEPLOYER_KEY"]
    before = server.live()

    def ask(verb: str, body: dict, token: str | None = None, model: str = "churn") -> tuple[int, str]:
        token = token or tokens.issue(key, "a test", verb, model)
        code = (
            "import json,sys,urllib.request,urllib.error\n"
            "v,b,t=sys.argv[1:]\n"
            "r=urllib.request.Request('http://deployer:8090/v1/'+v,b.encode(),{'authorization':'Bearer '+t})\n"
            "try:\n a=urllib.request.urlopen(r);print(a.status,a.read().decode())\n"
            "except urllib.error.HTTPError as e:print(e.code,e.read().decode())"
        )
        said = server.on_worker("python", "-c", code, verb, json.dumps(body), token)
        status, _, text = said.partition(" ")
        return int(status), text

    good = {"call": "c1", "model": "churn", "version": "1", "reason": "a test", "strategy": None, "wait_s": 0}
    assert ask("run", {"image": "perennial/base:bookworm"})[0] == 400
    assert ask("deploy", good | {"image": "perennial/base:bookworm"})[0] == 400
    assert ask("deploy", good | {"version": "../../1"})[0] == 400
    assert ask("deploy", good | {"model": "churn/../x"}, model="churn/../x")[0] == 400
    assert ask("deploy", good, tokens.issue("x" * 48, "a test", "deploy", "churn"))[0] == 401
    assert ask("deploy", good, tokens.issue(key, "a test", "retire", "churn"))[0] == 401
    once = tokens.issue(key, "a test", "status", "churn")
    assert ask("status", {"call": "c2", "model": "churn"}, once)[0] == 202
    assert ask("status", {"call": "c3", "model": "churn"}, once)[0] == 401
    # A version that nobody signed: registered by hand, with a real version's files.
    unsigned = (
        "import mlflow;c=mlflow.MlflowClient();v=c.get_model_version('churn','1');"
        "print(c.create_model_version('churn',v.source,v.run_id,model_id=v.source.rpartition('/')[2]).version)"
    )
    version = server.on_worker("python", "-c", unsigned).split()[-1]
    said = subprocess.run(
        [*["docker", "exec"], server.workers[0], "python", "-m", "pipeline", "deploy", "churn", version],
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 1 and "is not signed" in said.stderr
    assert live_at_last(server, before[0]) == before
    assert len(server.events("deployer_refused")) >= 6 and chain_is_whole(server)
    # Slots see the router and the deployer; databases, store and queue are on another network.
    ours = ["docker", "ps", "--filter", f"network={NAME}_edge", "--format", "{{.Names}}"]
    slot = next(c for c in server.run(ours).stdout.split() if c.endswith("-blue"))
    # Side by side: a name that nobody knows takes ten seconds.
    reach = "import socket,sys\ntry: socket.getaddrinfo(sys.argv[1],1)\nexcept OSError: sys.exit(3)"
    with ThreadPoolExecutor() as all_of_them:
        names = ("postgres", "redis", "store", "mlflow", "traefik")
        asked = [["docker", "exec", slot, "python3", "-c", reach, name] for name in names]
        assert [d.returncode for d in all_of_them.map(partial(subprocess.run, check=False), asked)] == [3] * 4 + [0]
    assert "docker.sock" not in server.run(["docker", "inspect", slot]).stdout


@pytest.fixture
def another_store() -> Iterator[list[str]]:
    """An S3 that is not the compose file's own, at the engine's address of this machine: its lines for .env."""
    (here,) = [a.address for a in psutil.net_if_addrs()["docker0"] if a.family is socket.AF_INET]
    port = free_port()
    with subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", here, "-p", str(port)], stderr=subprocess.DEVNULL
    ) as s3:
        yield [
            f"S3_ENDPOINT=http://{here}:{port}",
            "S3_ACCESS_KEY=another",
            "S3_SECRET_KEY=store",
            "S3_DATA_BUCKET=rows",
        ]
        s3.terminate()


def test_10_all_is_destroyed_and_a_backup_brings_it_back_on_another_store(
    server: Server, first_release: Retrained, another_store, tmp_path
):
    """A backup brings a destroyed server back, on another store, with what was live; the next version waits for an approval by command."""

    def facts():
        timeline, (status,), chain = server.ask_all(("timeline", "churn"), ("status", "churn"), ("verify",))
        kinds = ("rollout_ended", "version_registered", "run_settled", "rolled_back", "drift_checked")
        told = [(e["at"], e["kind"], e["details"].get("version")) for e in timeline["events"] if e["kind"] in kinds]
        route = status["shares"][0]["version"]
        return {"timeline": told, "live": timeline["live"]["version"], "route": route, "champion": champion()}, chain

    def champion():
        # By its address: the import of MLflow's client takes seconds.
        code = (
            "import json,os,urllib.request\n"
            "at=os.environ['MLFLOW_TRACKING_URI']+'/api/2.0/mlflow/registered-models/alias?name=churn&alias=champion'\n"
            "print(json.load(urllib.request.urlopen(at))['model_version']['version'])"
        )
        return server.on_worker("python", "-c", code).strip()

    before, chain_before = facts()
    was_champion = before["champion"]
    backup = tmp_path / "backup"
    server.run(["docker/backup.sh", str(backup)])
    server.run(["docker/down.sh", "--volumes", "-t", "10"])
    volumes = server.run(["docker", "volume", "ls", "-q"]).stdout.split()
    assert not [v for v in volumes if v.startswith("perennial-test_")]
    assert not server.run(["docker", "ps", "-q", "--filter", "name=perennial-test"]).stdout
    (server.folder / ".env").write_text("\n".join([*another_store, ""]))
    torn = shutil.copytree(backup, tmp_path / "torn")
    with (torn / "ledger.dump").open("ab") as file:
        file.write(b"x")
    refused = subprocess.run(["docker/restore.sh", str(torn)], cwd=server.folder, capture_output=True, text=True)
    assert refused.returncode == 1 and "is not whole, nothing was changed" in refused.stdout
    server.run(["docker/restore.sh", str(backup)])
    server.ready()
    wait_until_live(server, was_champion)
    assert httpx.post(f"{server.address}/invocations", content=BODY).status_code == 200
    now, chain = facts()
    assert now == before
    assert chain["intact"] and chain["events"] >= chain_before["events"]
    told = approved_by_command(server, "2024-03-03T00:00:00Z")
    forgotten = version_of(server)
    assert succeeded(told) and forgotten not in (None, was_champion) and chain_is_whole(server)
    if EXHAUSTIVE:  # over all that runs: this version is forgotten, and its number is given to another
        server.run(["docker/restore.sh", str(backup)])
        server.ready()
        wait_until_live(server, was_champion)
        told = server.finish(server.retrain("2024-03-04T00:00:00Z"))
        assert succeeded(told) and version_of(server) == forgotten and chain_is_whole(server)


def approved_by_command(server: Server, as_of: str) -> dict:
    """A retrain whose version waits until bob approves it, as docs/approval.md says it for a server; its tasks."""
    assert server.airflow is not None
    server.change_params("models.churn.approval", "required")
    until = time.monotonic() + 120
    while "approve" not in {t["task_id"] for t in server.airflow.get("/dags/retrain__churn/tasks")["tasks"]}:
        assert time.monotonic() < until
        time.sleep(0.5)
    run = server.retrain(as_of)
    server.wait_for(run, "approve", limit_s=600, state="awaiting_input")
    version = server.events("approval_asked")[-1]["version"]
    assert version_of(server) != version
    api_server = server.container("api-server")["Id"]
    command = ["perennial", "approve", "churn", version, "--reason", "the gates are fine"]
    said = server.run(["docker", "exec", "-e", "PERENNIAL_USER=bob", api_server, *command]).stdout
    assert "approved by bob: the gates are fine" in said and said.strip().endswith(
        f"its run retrain__churn/{run} goes on"
    )
    told = server.finish(run)
    assert live_at_last(server, version)[0] == version and server.events("approved")[-1]["by"] == "bob"
    return told
