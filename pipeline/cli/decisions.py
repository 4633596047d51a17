"""The commands about when a model changes."""

from __future__ import annotations

import argparse

from pipeline.cli.commands import Answer, context_of_a_person, known_model


def freeze(arguments: argparse.Namespace) -> Answer:
    from pipeline.runs import freeze

    context = context_of_a_person()
    model = known_model(context, arguments.model)
    said = freeze.freeze(context, "", model, arguments.reason, arguments.until)
    return Answer(f"{model}: {said}", {"model": model, "frozen": freeze.frozen(context, model)})


def unfreeze(arguments: argparse.Namespace) -> Answer:
    from pipeline.runs import freeze

    context = context_of_a_person()
    model = known_model(context, arguments.model)
    said = freeze.unfreeze(context, "", model, arguments.reason)
    return Answer(f"{model}: {said}", {"model": model, "frozen": None})
