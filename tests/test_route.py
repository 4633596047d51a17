"""The route file says who is live; what is written is what is read back."""

import pytest

from pipeline.errors import RolloutError
from pipeline.rollout import route
from pipeline.rollout.route import Route, Share

BLUE, GREEN = Share("blue", "3", "http://127.0.0.1:1"), Share("green", "12", "http://127.0.0.1:2")


@pytest.mark.parametrize("written", [Route("a-model", BLUE), Route("a-model", GREEN, BLUE), Route("blue", BLUE, GREEN)])
def test_what_is_written_is_read_back(tmp_path, written):
    route.write(tmp_path, written)
    assert route.read(tmp_path, written.model) == written
    assert route.all_routes(tmp_path) == [written]
    assert [p.name for p in route.routes_folder(tmp_path).iterdir()] == [f"{written.model}.yaml"]


def test_one_models_address_is_not_anothers():
    rule = route.render(Route("churn", BLUE))["http"]["routers"]["churn"]["rule"]
    assert rule == "Path(`/churn`) || PathPrefix(`/churn/`)"


def test_no_route_is_none(tmp_path):
    assert route.read(tmp_path, "churn") is None


@pytest.mark.parametrize("content", ["", "{", "http: {}", "http: {services: {churn: {weighted: {services: []}}}}"])
def test_a_file_that_is_not_ours_is_one_line(tmp_path, content):
    route.routes_folder(tmp_path).mkdir()
    (route.routes_folder(tmp_path) / "churn.yaml").write_text(content)
    with pytest.raises(RolloutError, match="is not one of ours") as refused:
        route.read(tmp_path, "churn")
    assert "\n" not in str(refused.value)
