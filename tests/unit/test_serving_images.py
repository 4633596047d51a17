"""Which serving images an engine keeps, and what a slot that names one starts from."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from docker.errors import ImageNotFound

from pipeline.errors import RolloutError
from pipeline.rollout.engines import serving_recipe
from pipeline.rollout.engines.base import EngineSettings, SlotSpec
from pipeline.rollout.engines.docker_images import DockerImages
from pipeline.rollout.engines.process import ProcessEngine
from pipeline.settings.environment import Environment

RECIPE, ID = "sha256:" + "ab" * 32, "sha256:" + "cd" * 32


class Images(dict):
    """Docker's images by their names and ids, without an engine."""

    def get(self, name):
        if name not in self:
            raise ImageNotFound(name)
        return self[name]


@pytest.fixture
def images(tmp_path):
    """(the images of one home, what its engine has, the names that were given)."""
    there, named = Images(), []
    there[ID] = SimpleNamespace(id=ID, tags=[], tag=lambda *name: named.append(":".join(name)))
    settings = EngineSettings(tmp_path, tmp_path, serving_images=f"onnx={ID}")
    return DockerImages(SimpleNamespace(images=there), settings, "h"), there, named


def spec(image):
    return SlotSpec("churn", "blue", "1", Path(), Path(), 0, image=image)


def test_an_approved_image_is_found_by_its_id_and_by_its_recipe(images):
    """On a server an approval names an image's id, on one machine its recipe's digest; another runtime's image is not it."""
    ours, there, _ = images
    assert ours.kept("onnx", ID) == ID and ours.kept("onnx", RECIPE) is None
    there["perennial/serving-onnx:abababababababab"] = SimpleNamespace(id="sha256:old", tags=["x"])
    assert ours.kept("onnx", RECIPE) == "sha256:old" and ours.kept("skops", RECIPE) is None
    assert ours._base_for(spec(RECIPE)) == "sha256:old" and ours._base_for(spec("")) == ID


def test_a_slot_starts_from_no_other_image_than_it_names(images):
    """An image that went between the deployer's look and the start is an error, never another image."""
    ours, _, _ = images
    with pytest.raises(RolloutError, match=f"slot churn blue: its serving image {RECIPE} is no longer in this engine"):
        ours._base_for(spec(RECIPE))


def test_a_pinned_image_without_a_name_gets_one(images):
    """An engine removes an unnamed image together with the last image of a version that was made from it, which a rollout prunes."""
    ours, there, named = images
    assert ours.serving_base("onnx") == ID and named == ["perennial/serving-onnx:cdcdcdcdcdcdcdcd"]
    there[ID].tags.append("perennial/serving-onnx:1")
    ours.serving_base("onnx")
    assert len(named) == 1


def test_a_process_has_the_image_of_its_own_code_alone(tmp_path):
    """The process engine runs the code that is there: its digest is that of the recipe, and no other can be started."""
    project = Environment.read().project
    engine = ProcessEngine(EngineSettings(tmp_path, project))
    now = f"sha256:{serving_recipe.recipe_digest(project, 'onnx')}"
    assert engine.has_image("onnx", now) and not engine.has_image("skops", now) and not engine.has_image("onnx", RECIPE)
