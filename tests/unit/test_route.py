"""The route file: written whole, read back, refused when another hand wrote it; its form for Traefik."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import yaml

from pipeline.errors import RolloutError
from pipeline.rollout.routing import route_file
from pipeline.rollout.routing.route import Route, RoutedSlot
from pipeline.rollout.routing.traefik import SENT_AGAIN
from pipeline.settings.models import MODEL_NAME

BLUE = RoutedSlot("blue", "3", "http://127.0.0.1:5001")
GREEN = RoutedSlot("green", "4", "http://127.0.0.1:5002")

ROUTES = [
    Route("my-model-2", BLUE),
    Route("my-model-2", GREEN, BLUE),
    Route("my-model-2", BLUE, candidate=GREEN, percent=7),
    Route("my-model-2", BLUE, candidate=GREEN, percent=7, follow="x-customer"),
    Route("my-model-2", BLUE, candidate=GREEN, percent=100, mirror=True),
    Route("my-model-2", BLUE, candidate=GREEN, percent=7, follow="x-customer", rate_limit=20),
    Route("my-model-2", GREEN, BLUE, rate_limit=20),
]


@pytest.mark.parametrize("asked", ROUTES)
def test_what_is_written_is_read_back(tmp_path, asked):
    """A route that is written is read back unchanged."""
    written = route_file.write(tmp_path, asked)
    assert replace(written, stamp="") == asked
    assert route_file.read(tmp_path, "my-model-2") == written
    assert route_file.routed_models(tmp_path) == ["my-model-2"]


@pytest.mark.parametrize("asked", ROUTES)
def test_traefik_reads_the_same_as_we_do(asked):
    """A rendered route names only services and middlewares that it defines, and its weights add up to 100."""
    rendered = route_file.render(asked)["http"]
    services = rendered["services"]
    for router in rendered["routers"].values():
        assert router.get("service", "my-model-2") in services
        assert set(router["middlewares"]) <= set(rendered["middlewares"])
    for service in services.values():
        for inner in service.get("weighted", {}).get("services", []):
            assert inner["name"] in services
        for name in service.get("failover", {}).values():
            assert name in services
    if asked.candidate is not None and not asked.mirror:
        weights = {s["name"]: s["weight"] for s in services["my-model-2"]["weighted"]["services"]}
        assert weights == {"my-model-2.champion": 93, "my-model-2.candidate": 7}


@pytest.mark.parametrize("asked", ROUTES)
def test_each_attempt_is_seen_behind_what_retries_and_packed_requests_are_left_whole(asked):
    """What marks later attempts reads the rest of a body, so it stands only where Traefik keeps a copy; no client can mark."""
    rendered = route_file.render(asked)["http"]
    retried = [r["middlewares"] for r in rendered["routers"].values() if "my-model-2.retry" in r["middlewares"]]
    assert retried and all(names[-2:] == ["my-model-2.retry", "my-model-2.attempts"] for names in retried)
    for router in rendered["routers"].values():
        names = router["middlewares"]
        assert ("my-model-2.attempts" in names) == ("my-model-2.retry" in names)
    taken_off = rendered["middlewares"]["my-model-2.stamp"]["headers"]["customRequestHeaders"]
    assert taken_off[SENT_AGAIN] == ""


@pytest.mark.parametrize("asked", ROUTES)
def test_a_slot_is_left_for_its_health_only_where_another_can_answer(asked):
    """A slot has a health check only where another slot can answer."""
    services = route_file.render(asked)["http"]["services"]
    balancers = [service["loadBalancer"] for service in services.values() if "loadBalancer" in service]
    alone = asked.mirror or (asked.previous is None and asked.candidate is None)
    assert balancers
    assert all(("healthCheck" in balancer) != alone for balancer in balancers)


def test_models_never_share_a_name_in_traefik():
    """Names in Traefik's configuration are unique, even for models named like parts of another."""
    parts = ("candidate", "champion", "to-any", "to-candidate", "strip", "stamp", "retry", "bucket", "blue-v3")
    models = ["m", *(f"m-{part}" for part in parts)]
    assert all(MODEL_NAME.match(model) for model in models)
    taken = Counter()
    for model in models:
        rendered = route_file.render(Route(model, BLUE, candidate=GREEN, percent=7, follow="x-customer"))["http"]
        taken.update((kind, name) for kind, names in rendered.items() for name in names)
    assert set(taken.values()) == {1}


def test_no_route_is_none(tmp_path):
    """A model without a route file has no route."""
    assert route_file.read(tmp_path, "churn") is None


@pytest.mark.parametrize("text", ["", "a: [", "http: {}", "- 1", "http:\n  services: 3\n"])
def test_a_file_of_another_hand_is_refused(tmp_path, text):
    """A route file that is not ours is refused."""
    route_file.routes_folder(tmp_path).mkdir()
    route_file.route_file(tmp_path, "churn").write_text(text)
    with pytest.raises(RolloutError, match="was not written by Perennial"):
        route_file.read(tmp_path, "churn")
    assert route_file.token_of(tmp_path, "churn") == 0


def test_a_change_by_hand_is_seen(tmp_path):
    """A route file that was changed by another hand is refused."""
    written = route_file.write(tmp_path, Route("churn", BLUE, GREEN))
    path = route_file.route_file(tmp_path, "churn")
    first, rest = path.read_text().split("\n", 1)
    config = yaml.safe_load(rest)
    config["http"]["services"]["churn.blue.v3"]["loadBalancer"]["servers"][0]["url"] = "http://127.0.0.1:6666"
    path.write_text(first + "\n" + yaml.safe_dump(config))
    with pytest.raises(RolloutError, match="was changed by another hand"):
        route_file.read(tmp_path, "churn")
    assert route_file.token_of(tmp_path, written.model) == 0
