"""What would serve a version of a model now: asked before it is registered, by who checks what is in its image."""

from __future__ import annotations

from pipeline.errors import SettingsError
from pipeline.gates.image_system import ServingSystem
from pipeline.rollout.context import RolloutContext
from pipeline.rollout.engines.serving_recipe import PACKAGES
from pipeline.settings.rollout import Rollout


def serving_system(context: RolloutContext, settings: Rollout, runtime: str) -> ServingSystem:
    """The engine that a rollout would take, and what its image for the runtime has of its distribution. Nothing is started; an image that
    is not there yet is made, as a rollout would. Raises RolloutError or SettingsError."""
    if runtime not in PACKAGES:
        raise SettingsError(f"runtime {runtime[:40]}", "is not known", f"must be one of {', '.join(PACKAGES)}")
    engine, why = context.engines.choose(settings.engine)
    return ServingSystem(engine.name, why, context.image_digest(runtime), engine.system(runtime))
