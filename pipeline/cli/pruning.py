"""The command `prune`, and its table."""

from __future__ import annotations

import argparse
import shutil
from contextlib import nullcontext
from typing import TYPE_CHECKING

from pipeline.cli.commands import Answer, context_of_a_person, known_model
from pipeline.cli.plain_table import PlainTable

if TYPE_CHECKING:
    from pipeline.runs.pruning.run import Pruning


def prune(arguments: argparse.Namespace) -> Answer:
    """Removes what the section keep lets go. Exit code 1 where a model was left alone, and why is said."""
    from pipeline.accounts.pauses import without_pauses
    from pipeline.runs.pruning import run

    context = context_of_a_person()
    models = [known_model(context, model) for model in arguments.models]
    # Of hundreds of models to open a connection for each question is most of the time; a look that only reads ends soon.
    with context.ledger.reading(), without_pauses() if arguments.dry_run else nullcontext():
        pruned = run.prune(context, "cli/prune", models, arguments.dry_run)
    return Answer(_text(pruned), pruned.as_dict(), 1 if pruned.notes else 0)


def _text(pruned: Pruning) -> str:
    table = PlainTable("model", "what", ">number", ">MB")
    rows = 0
    for each in pruned.models:
        for kind, count in each.removed.items():
            table.add_row(each.model, kind, str(count), "")
            rows += 1
        if each.removed:
            gone = f"all, with versions {', '.join(each.versions)}" if each.versions else "all"
            table.add_row(each.model, gone, str(each.removed.total()), f"{each.size / 1e6:.1f}")
    word = "would go" if pruned.dry_run else "is gone"
    said = (
        f"this {word}, by the section keep of params.yaml"
        if rows
        else "nothing to prune: the section keep lets all stay"
    )
    width = shutil.get_terminal_size((120, 24)).columns
    return "\n".join([*([table.text(width)] if rows else []), said, *pruned.notes])
