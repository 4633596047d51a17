"""What the services get from us: preloaded libraries, a worker's health, and SQLite settings for Airflow."""

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
import threading
import time

import pytest
import sqlalchemy as sa

from harness.project import ROOT
from pipeline.services import preload
from pipeline.services.airflow_sqlite import CONNECT_ARGUMENTS, OneWriterAtATime


def test_a_warm_program_has_the_libraries_and_none_of_our_code(tmp_path):
    """A preloaded program has the slow libraries imported and none of our modules."""
    program = tmp_path / "program"
    program.write_text(
        "#!/usr/bin/env python\n"
        "import json, sys, threading\n"
        "loaded = {name for name in sys.modules if name.startswith('pipeline')}\n"
        "print(json.dumps([sys.argv, sorted(loaded), [m in sys.modules for m in ('mlflow.sklearn', 'skops.io', 'dvc.repo')],"
        " threading.active_count()]))\n"
    )
    program.chmod(0o755)
    command = [sys.executable, "-m", "pipeline.services.preload", "program", "--so", "1"]
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | {"PATH": path})
    argv, ours, there, threads = json.loads(done.stdout)
    assert argv == [str(program), "--so", "1"]
    assert ours == []
    assert (there, threads) == ([True] * 3, 1)
    gone = subprocess.run([*command[:3], "no-such-program"], capture_output=True, text=True, check=False)
    assert (gone.returncode, gone.stderr.strip()) == (1, "no-such-program is not installed; look at the PATH")


def test_a_library_that_cannot_be_imported_stops_no_program(tmp_path):
    """Neither one that is missing nor one that is broken stops a scheduler: each is a warning with its name."""
    (tmp_path / "program").write_text("import sys; print('ran', 'mlflow.sklearn' in sys.modules)\n")
    (tmp_path / "program").chmod(0o755)
    for name, text in {
        "git": "raise ModuleNotFoundError('no git here')",
        "skl2onnx": "raise AttributeError('float_')",
    }.items():
        (tmp_path / f"{name}.py").write_text(text)
    paths = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "pipeline.services.preload", "program"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | paths)
    # Not the last line: the stage server, which is forked before, meets the broken library too, at its own time.
    assert "ran True" in done.stdout.splitlines()
    output = done.stdout + done.stderr  # Airflow, once imported, sends warnings to stdout
    assert "preload: git is not imported: ModuleNotFoundError: no git here" in output
    assert "preload: skl2onnx is not imported: AttributeError: float_" in output


def test_a_celery_worker_is_healthy_as_long_as_it_has_its_queue(tmp_path):
    """A Celery worker is healthy while its heartbeats to the queue are younger than 30 s."""
    from celery.signals import heartbeat_sent

    alive = tmp_path / "worker-alive"
    alive.touch()

    def told():
        command = [sys.executable, ROOT / "docker/airflow/healthy.py", str(alive)]
        return subprocess.run(command, capture_output=True, text=True, check=False).returncode

    preload._touch_at_heartbeats(alive)
    assert told() == 1, "it says nothing before it has reached its queue"
    heartbeat_sent.send(sender=None)
    assert told() == 0
    os.utime(alive, (time.time() - 31,) * 2)
    assert told() == 1


def test_airflows_database_does_not_wait_for_the_disk(tmp_path):
    """Connections to Airflow's SQLite database use synchronous = NORMAL."""
    with sqlite3.connect(tmp_path / "a.db", **CONNECT_ARGUMENTS) as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (1,)


@pytest.mark.parametrize("arguments", [{"timeout": 60}, CONNECT_ARGUMENTS], ids=["plain", "ours"])
def test_a_savepoint_that_reads_before_it_writes_is_not_refused(tmp_path, arguments):
    """A savepoint that reads first can write beside another writer with our connection arguments, and not without."""
    file = tmp_path / "a.db"
    engine = sa.create_engine(f"sqlite:///{file}", connect_args=arguments | {"check_same_thread": False})
    with engine.begin() as connection:
        connection.exec_driver_sql("PRAGMA journal_mode = WAL")
        connection.exec_driver_sql("CREATE TABLE runs (who TEXT)")

    def write():
        with sqlite3.connect(file, timeout=60) as other:
            other.execute("INSERT INTO runs VALUES ('another')")

    writer = threading.Thread(target=write)
    with engine.connect() as connection:
        nested = connection.begin_nested()
        connection.exec_driver_sql("SELECT count(*) FROM runs").fetchall()
        writer.start()
        # Beside ours it waits until we have committed.
        writer.join(0.5 if arguments is CONNECT_ARGUMENTS else 60)
        insert = sa.text("INSERT INTO runs VALUES ('backfill')")
        if arguments is not CONNECT_ARGUMENTS:
            with pytest.raises(sa.exc.OperationalError, match="database is locked"):
                connection.execute(insert)
            return
        connection.execute(insert)
        nested.commit()
        connection.commit()
    writer.join()
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM runs").scalar() == 2


@pytest.mark.parametrize("ordered", [False, True], ids=["as it comes", "ours"])
def test_two_requests_that_write_do_not_wait_for_each_other(tmp_path, ordered):
    """Two writing requests to Airflow's API do not block each other with our middleware, and do without it."""

    def connect():
        return sqlite3.connect(tmp_path / "a.db", timeout=1.0, check_same_thread=False)

    with connect() as made:
        made.execute("PRAGMA journal_mode = WAL")
        made.execute("CREATE TABLE log (what TEXT)")

    holding = asyncio.Event()

    async def server(scope, receive, send):
        body = (await receive())["body"].decode()
        with connect() as log:
            log.execute("INSERT INTO log VALUES (?)", ("asked " + body,))
        session = connect()
        await asyncio.to_thread(session.execute, "INSERT INTO log VALUES (?)", ("done " + body,))
        holding.set()
        await asyncio.sleep(0.2)
        await asyncio.to_thread(session.commit)
        await send({"type": "http.response.start", "status": 200})

    async def ask(app, body: str, method: str = "POST") -> str:
        told = []
        messages = [{"type": "http.request", "body": body.encode(), "more_body": False}]

        async def receive():
            return messages.pop(0)

        async def send(message):
            told.append(message["status"])

        try:
            await app({"type": "http", "method": method}, receive, send)
        except sqlite3.OperationalError as error:
            return str(error)
        return str(told[0])

    async def both():
        app = OneWriterAtATime(server) if ordered else server
        first = asyncio.create_task(ask(app, "one"))
        await holding.wait()
        return [await ask(app, "two"), await first]

    said = asyncio.run(both())
    assert said == (["200", "200"] if ordered else ["database is locked", "200"])


def test_who_reads_and_who_is_slow_to_send_holds_up_nobody():
    """A reading request does not wait for a writing one, and a request without its body holds nobody up."""
    going, arrived, order = asyncio.Event(), asyncio.Event(), []

    async def server(scope, receive, send):
        order.append(scope["path"])
        if scope["path"] == "write":
            await going.wait()

    async def slow():
        if not arrived.is_set():
            await arrived.wait()
        return {"type": "http.request", "body": b"", "more_body": False}

    async def at_once():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def go():
        app = OneWriterAtATime(server)
        late = asyncio.create_task(app({"type": "http", "method": "PUT", "path": "late"}, slow, None))
        await asyncio.sleep(0)
        write = asyncio.create_task(app({"type": "http", "method": "POST", "path": "write"}, at_once, None))
        await asyncio.sleep(0.01)
        await app({"type": "http", "method": "GET", "path": "read"}, at_once, None)
        arrived.set()
        await asyncio.sleep(0.01)
        assert order == ["write", "read"]
        going.set()
        await asyncio.gather(late, write)

    asyncio.run(go())
    assert order == ["write", "read", "late"]
