"""Foreign files in routes/ are set aside, and a model's own damaged file is written again as it was."""

from __future__ import annotations

import json

import pytest

from pipeline.errors import RolloutError
from pipeline.ledger.chain import Head
from pipeline.rollout.routing import foreign_files, no_model, route_file
from pipeline.rollout.routing.route import Route, RoutedSlot

BLUE = RoutedSlot("blue", "3", "http://127.0.0.1:1001")
GREEN = RoutedSlot("green", "4", "http://127.0.0.1:1002")


@pytest.fixture
def routes(tmp_path):
    """A home with the routes of `churn` and `fraud`."""
    for model in ("churn", "fraud"):
        route_file.write(tmp_path, Route(model, BLUE, GREEN), 7, Head(3, "ab" * 32))
    return tmp_path


def content(home):
    return {path.name: path.read_bytes() for path in route_file.routes_folder(home).iterdir()}


def test_our_own_files_stay(routes):
    """Routes as we wrote them, and one that is being written, are left alone."""
    (routes / "routes" / ".churn.part").write_text("half")
    before = content(routes)
    assert foreign_files.set_aside(routes) == []
    assert content(routes) == before
    assert foreign_files.were_set_aside(routes) == ""


@pytest.mark.parametrize("text", ["a: [", "", '{"http": {}}'])
def test_the_route_of_no_model_is_ours(routes, text):
    """As we wrote it, it stays; changed, it is written again, and what was there is kept aside."""
    no_model.write(routes)
    assert foreign_files.set_aside(routes) == []
    before = content(routes)
    (routes / "routes" / no_model.NAME).write_text(text)
    (line,) = foreign_files.set_aside(routes)
    assert no_model.NAME in line
    assert content(routes) == before
    (aside,) = foreign_files.set_aside_folder(routes).iterdir()
    assert aside.read_text() == text
    assert route_file.routed_models(routes) == ["churn", "fraud"]


@pytest.mark.parametrize(
    "name",
    [
        "notes.yaml",
        "notes.yml",
        "x.toml",
        "Churn.yaml",
        "churn.yaml~",
        ".churn.yaml.swp",
        "churn.yaml.bak",
        "sub/q.yaml",
    ],
)
def test_a_foreign_file_is_set_aside_and_shown(routes, name):
    """A file or folder that is no route of ours goes to routes-set-aside/, with a line in `status`."""
    before = content(routes)
    path = routes / "routes" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("a: [")
    (line,) = foreign_files.set_aside(routes)
    top = name.partition("/")[0]
    assert top in line
    assert content(routes) == before
    assert top in foreign_files.were_set_aside(routes)
    assert foreign_files.set_aside(routes) == []


def test_a_link_is_set_aside_and_what_it_leads_to_stays(routes, tmp_path):
    """A link in routes/ is set aside, also with a model's name; its target is not touched."""
    target = tmp_path / "elsewhere.yaml"
    target.write_bytes((routes / "routes" / "churn.yaml").read_bytes())
    before = content(routes)
    (routes / "routes" / "churn.yaml").unlink()
    (routes / "routes" / "churn.yaml").symlink_to(target)
    (routes / "routes" / "other.yaml").symlink_to("nowhere")
    assert len(foreign_files.set_aside(routes)) == 2
    assert content(routes) == before
    assert not (routes / "routes" / "churn.yaml").is_symlink()
    assert target.read_bytes() == before["churn.yaml"]


def test_a_copy_under_another_models_name_is_set_aside(routes):
    """A copy of a route, which would take both models off the router, is set aside, also where it replaces a route."""
    before = content(routes)
    (routes / "routes" / "copy.yaml").write_bytes(before["churn.yaml"])
    (routes / "routes" / "fraud.yaml").write_bytes(before["churn.yaml"])
    lines = foreign_files.set_aside(routes)
    assert [("is a copy of the route of churn" in line) for line in lines] == [True, True]
    assert content(routes) == before


@pytest.mark.parametrize("with_copy", [True, False], ids=["with its copy", "of an earlier version"])
@pytest.mark.parametrize("harm", ["cut", "changed", "bytes"])
def test_a_damaged_route_is_written_again_as_it_was(routes, harm, with_copy):
    """A model's own file that was damaged is written again with its shares, predecessor, token and ledger's head."""
    path = routes / "routes" / "churn.yaml"
    before, route = path.read_bytes(), route_file.read(routes, "churn")
    harmed = {
        "cut": before[:-40],
        "changed": before.replace(b"127.0.0.1:1001", b"127.0.0.1:6666", 2).replace(
            b"127.0.0.1:6666", b"127.0.0.1:1001", 1
        ),
        "bytes": before[: before.index(b"\n")] + b"\n\xff\xfe",
    }[harm]
    path.write_bytes(harmed)
    if not with_copy:
        route_file.kept_file(routes, "churn").unlink()
    (line,) = foreign_files.set_aside(routes)
    if harm == "bytes" and not with_copy:
        assert "it is now" in line
        return
    assert line.startswith("churn: its route ")
    assert "written again as it was" in line
    assert path.read_bytes() == before
    assert route_file.read(routes, "churn") == route
    assert route_file.token_of(routes, "churn") == 7
    (aside,) = foreign_files.set_aside_folder(routes).iterdir()
    assert aside.read_bytes() == harmed


def test_a_file_that_an_earlier_version_wrote_is_left_alone(routes):
    """A route that we wrote in another form than today's stays, as long as nobody changed it since."""
    path = routes / "routes" / "churn.yaml"
    first, _, rest = path.read_text().partition("\n")
    older = json.loads(rest)
    older["http"]["middlewares"].popitem()
    text = f"{first}\n{json.dumps(older)}"
    path.write_text(text)
    route_file.keep(routes, "churn", text)
    assert foreign_files.set_aside(routes) == []
    assert path.read_text() == text


def test_a_route_that_was_removed_stays_removed(routes):
    """A removed route leaves no copy behind from which it could come back."""
    route_file.remove(routes, "churn", 7)
    (routes / "routes" / "churn.yaml").write_text("a: [")
    foreign_files.set_aside(routes)
    # Beside a route lies its reserve for a full disk.
    assert set(content(routes)) == {"fraud.yaml", ".fraud.part"}


def test_the_same_file_again_and_again_takes_one_place(routes):
    """What another program writes each minute is kept once."""
    for _ in range(5):
        (routes / "routes" / "notes.yaml").write_text("a: [")
        foreign_files.set_aside(routes)
    assert len(list(foreign_files.set_aside_folder(routes).iterdir())) == 1


def test_the_watch_looks_closer_only_after_a_change(routes, monkeypatch):
    """What always runs reads the routes again only when something in the folder has changed."""
    looked = []
    real = foreign_files.set_aside
    monkeypatch.setattr(foreign_files, "set_aside", lambda home: looked.append(home) or real(home))
    watch = foreign_files.Watch(routes)
    for _ in range(3):
        assert watch.look() == []
    assert len(looked) == 1
    (routes / "routes" / "notes.yaml").write_text("a: [")
    assert len(watch.look()) == 1
    assert foreign_files.Watch(routes / "not-there").look() == []


def test_a_route_with_a_key_written_twice_is_not_ours(routes):
    """JSON's reader takes the last one silently; Traefik refuses such a file."""
    file = route_file.route_file(routes, "churn")
    first, _, rest = file.read_text().partition("\n")
    file.write_text(f'{first}\n{{"http": {{}},{rest.lstrip()[1:]}')
    with pytest.raises(RolloutError, match="is damaged"):
        route_file.read(routes, "churn")
