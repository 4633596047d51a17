"""Workers count the prediction log's partitions: in groups, from the deployer's own bytes, and it keeps only what can be true."""

from types import SimpleNamespace

import httpx
import pytest
from starlette.testclient import TestClient

from pipeline.deployer import client as clients
from pipeline.deployer import log_partitions as deployers
from pipeline.deployer import partition_stream, tokens, traffic
from pipeline.deployer.api import LocalTraffic
from pipeline.deployer.service import Service
from pipeline.errors import RolloutError
from pipeline.ledger.events import DeployerCalled, DeployerRefused
from pipeline.monitoring import log_profiles
from pipeline.monitoring.log_partitions import Partition
from pipeline.runs import partition_profiles as workers
from pipeline.serving import log_files
from tests.support.monitored import AS_OF, Monitored, at

KEY = "k" * 48


def part(number, rows=10, size=1000):
    return Partition(f"{log_files.file_name('blue-v1-1', number, number)} {size} {'0' * 64}", rows)


@pytest.mark.parametrize(
    ("partitions", "sizes", "left"),
    [
        ([], [], 0),
        ([part(n) for n in range(450)], [200, 200, 50], 0),
        ([part(n, rows=900_000) for n in range(5)], [2, 2, 1], 0),
        ([part(n, rows=3_000_000) for n in range(20)], [1] * 16, 4),
        ([part(n, size=100 * 2**20) for n in range(4)], [2, 2], 0),
    ],
)
def test_a_group_is_bounded_in_files_rows_and_bytes(partitions, sizes, left):
    """There are at most sixteen; a file that is larger by itself has one of its own, and the rest is left to the look."""
    groups, rest = workers.grouped(partitions)
    assert ([len(group.partitions) for group in groups], len(rest)) == (sizes, left)
    assert [each for group in groups for each in group.partitions] + rest == partitions


class OnServer:
    """A model whose log lies with a deployer, and what a worker of the same server has."""

    def __init__(self, monitored, monkeypatch, worker_home):
        self.deployer, self.ledger = monitored.context, monitored.ledger
        self.worker = SimpleNamespace(**vars(self.deployer))
        self.worker.home = worker_home
        self.worker.environment = SimpleNamespace(deployer="http://deployer", deployer_key=KEY)
        self.worker.asked_by = ""
        self.http = TestClient(
            Service(self.deployer, LocalTraffic(self.deployer), KEY).app(), base_url="http://deployer"
        )
        for name in ("request", "stream"):
            monkeypatch.setattr(clients.httpx, name, self._asked(getattr(self.http, name)))
        monkeypatch.setattr(clients, "RETRY_S", 0.0)
        self.traffic = traffic(self.worker)
        self.folder = monitored.home / "predictions" / "churn"

    @staticmethod
    def _asked(ask):
        return lambda *about, timeout, verify, **more: ask(*about, **more)

    def count(self):
        """What the Dag's tasks do before a look."""
        return [workers.profile_group(self.worker, "r", "churn", g) for g in workers.groups(self.worker, "churn")]

    def counted(self):
        """(edges, the profiles) as a worker gives them, and nothing is kept of them."""
        given = {}
        with pytest.MonkeyPatch.context() as during:
            during.setattr(
                clients.RemoteTraffic,
                "take_profiles",
                lambda _, run, model, edges, found: given.update(edges=edges, found=found) or deployers.Taken(0, {}),
            )
            self.count()
        return given["edges"], given["found"]


@pytest.fixture
def on_server(project, ledger, churn_artifacts, tmp_path, monkeypatch):
    monitored = Monitored(project, ledger, churn_artifacts, tmp_path / "home", 0)
    return OnServer(monitored, monkeypatch, tmp_path / "worker")


def look(context, ledger):
    return LocalTraffic(context).profile("churn", "1", "d1", at(8), AS_OF).as_dict()


def test_after_the_workers_a_look_counts_no_whole_hour(on_server, monkeypatch):
    """It says what it would say if it had counted; a file of before is not counted twice, and one that comes later is the look's own."""
    expected = look(on_server.deployer, on_server.ledger)
    (on_server.deployer.home / "profiles" / "churn.db").unlink()
    (told,) = on_server.count()
    assert told == {"given": 1, "kept": 1, "refused": {}}
    assert on_server.count() == [] and not on_server.worker.home.exists()
    with monkeypatch.context() as during:
        during.setattr(log_profiles, "profiles", None)
        assert look(on_server.deployer, on_server.ledger) == expected
    verbs = [event.body["verb"] for event in on_server.ledger.events(DeployerCalled)]
    assert verbs == ["log_files", "take_profiles"]
    # The same rows once more, as another process wrote them.
    (path,) = log_files.listed(on_server.folder).files
    (on_server.folder / log_files.file_name("green-v1-1", 0, 0)).write_bytes(path.read_bytes())
    assert look(on_server.deployer, on_server.ledger)["rows"] == 2 * expected["rows"]


def test_a_task_that_runs_again_counts_nothing_twice(on_server):
    """Nor does one whose files another look has counted, or that were merged away, or whose model is live no more."""
    groups = workers.groups(on_server.worker, "churn")
    assert [group["title"].split(":")[0] for group in groups] == ["1 of 1"]
    for expected in ({"given": 1, "kept": 1, "refused": {}}, {"given": 0, "kept": 0, "refused": {}}):
        assert workers.profile_group(on_server.worker, "r", "churn", groups[0]) == expected
    on_server.deployer.ledger = on_server.worker.ledger = SimpleNamespace(last=lambda *_, **__: [], append=print)
    assert workers.groups(on_server.worker, "churn") == []


def without_a_row(hours):
    return [hours[0]._replace(rows=hours[0].rows - 1), *hours[1:]]


WRONG = (
    (without_a_row, "requests, and the profile counts"),
    (lambda hours: hours[1:], "requests, and the profile counts"),
    (lambda hours: [*hours, hours[0]], "has an hour twice"),
    (lambda hours: [hours[0]._replace(cells=hours[0].cells[:-1]), *hours[1:]], "has other cells than the layout"),
    (lambda hours: [hours[0]._replace(cells=b"none"), *hours[1:]], "cannot be unpacked"),
    (lambda hours: [hours[0]._replace(untimed=hours[0].rows + 1), *hours[1:]], "counts that cannot be"),
    (lambda hours: [hours[0]._replace(answers=float("nan")), *hours[1:]], "counts that cannot be"),
    (lambda hours: [hours[0]._replace(cells=of_more_rows(hours).cells), *hours[1:]], "and counts"),
)


def test_the_deployer_keeps_no_profile_that_cannot_be_the_files(on_server):
    """Its counts must add up to the file's own requests, in the layout's cells; else nothing of the file is kept."""
    edges, found = on_server.counted()
    ((name, hours),) = found.items()
    for number, (change, why) in enumerate(WRONG):
        taken = on_server.traffic.take_profiles("r", "churn", edges, {name: change(hours)})
        assert taken.kept == 0 and why in taken.refused[name], (number, why)
        assert len(on_server.traffic.uncounted("churn").partitions) == 1, (number, why)
    assert on_server.traffic.take_profiles("r", "churn", edges, found) == deployers.Taken(1, {})


def of_more_rows(hours):
    return next(hour for hour in hours if hour.rows != hours[0].rows)


def test_the_deployer_keeps_no_profile_of_another_layout_or_file(on_server):
    """Not of a layout that is not the live version's, and not under a name that its log has not, as one in another folder."""
    edges, found = on_server.counted()
    ((name, hours),) = found.items()
    taken = on_server.traffic.take_profiles("r", "churn", "0" * 64, found)
    assert taken.kept == 0 and "not the live version's" in taken.refused[name]
    others = [f"../churn/{name}", name[:-1] + "x", name.replace("blue", "red"), "params.yaml 1 0", "", f"{name}\0"]
    taken = on_server.traffic.take_profiles("r", "churn", edges, dict.fromkeys(others, hours))
    assert taken.kept == 0 and set(taken.refused.values()) == {"is no file of the log now"}
    on_server.folder.joinpath("copy").mkdir()
    on_server.traffic.fetch_partitions("r", "churn", others, on_server.folder / "copy")
    assert list((on_server.folder / "copy").iterdir()) == []


def test_a_profile_takes_a_token_and_a_bounded_body(on_server, monkeypatch):
    """Without a token for it nothing is read; more than may be is refused, and what is no profile is an error that says so."""
    monkeypatch.setattr("pipeline.deployer.service.MAX_PROFILES", 100)

    def ask(verb, body):
        token = tokens.issue(KEY, "r", verb, "churn")
        headers = {"authorization": f"Bearer {token}"}
        return on_server.http.post("/v1/take_profiles?model=churn", content=body, headers=headers)

    assert ask("profile", b"{}").status_code == 401
    assert ask("take_profiles", b"x" * 101).status_code == 413
    for body in (b"", b"{}", b"[]", b'{"edges": "e", "found": {"a": [[1]]}}', b'{"edges": "e", "found": {"a": 7}}'):
        answer = ask("take_profiles", body)
        assert (answer.status_code, answer.json()["subject"]) == (503, "profiles"), body
    assert len(on_server.ledger.events(DeployerRefused)) == 2


def test_a_stream_that_is_cut_off_is_no_file(on_server, monkeypatch, tmp_path):
    """It is asked for again, and then said; a file that is not there any more is left out."""
    (path,) = log_files.listed(on_server.folder).files
    name = log_profiles.identity(path)
    on_server.traffic.fetch_partitions("r", "churn", [part(3).name, name], tmp_path)
    assert tmp_path.joinpath(path.name).read_bytes() == path.read_bytes()
    monkeypatch.setattr("pipeline.deployer.service.framed", lambda files: [*partition_stream.framed(files)][:-1])
    with pytest.raises(RolloutError, match=r"does not send the files of its prediction log \(ended too early\)"):
        on_server.traffic.fetch_partitions("r", "churn", [name], tmp_path)


def test_a_deployer_of_before_is_named(on_server, monkeypatch):
    """It knows no such verb; the task says so at once, and the look counts."""
    answer = httpx.Response(
        405, text="Method Not Allowed", request=httpx.Request("GET", "http://deployer/v1/uncounted")
    )
    monkeypatch.setattr(clients.httpx, "request", lambda *_, **__: answer)
    with pytest.raises(RolloutError, match="answers 405 and no JSON to /v1/uncounted; is it of the same version"):
        workers.groups(on_server.worker, "churn")


def test_a_look_whose_profiles_another_look_removes_counts_again(on_server, monkeypatch):
    """So that two looks at once say the same, each of the whole window."""
    from pipeline.monitoring.profiles.kept import Kept

    expected, windows, window = look(on_server.deployer, on_server.ledger), [], Kept.window

    def removed_before(kept, *about):
        if not windows:
            other = Kept(kept._file, kept.layout, {"another": {"version"}})
            other.prune([])
        windows.append(window(kept, *about))
        return windows[-1]

    monkeypatch.setattr(Kept, "window", removed_before)
    assert look(on_server.deployer, on_server.ledger) == expected
    assert [found is None for found in windows] == [True, False]
