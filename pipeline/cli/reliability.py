"""The commands about service levels, and about what people are told."""

from __future__ import annotations

import argparse
import math
from dataclasses import replace
from typing import TYPE_CHECKING

from pipeline.cli.commands import Answer, context_of_a_person, known_model
from pipeline.cli.outputs import write
from pipeline.errors import SettingsError

if TYPE_CHECKING:
    from pipeline.context import Context
    from pipeline.settings.slo import Slo

# Of a project: they end as Prometheus' rules do.
SETTINGS = ("params.yaml", "dvc.yaml", "docker-compose.yaml")


def slo(arguments: argparse.Namespace) -> Answer:
    """Service levels over the last `--hours`, or the definitions for Prometheus and Grafana.

    Raises SettingsError for hours that are no number above 0.
    """
    from pipeline.cli import slo_table
    from pipeline.deployer import traffic
    from pipeline.reliability.report import total_throughput

    if not 0 < arguments.hours < math.inf:
        raise SettingsError("slo --hours", f"must be a number above 0; got {arguments.hours:g}", "leave it out for 24")
    context = context_of_a_person()
    model = known_model(context, arguments.model)
    if arguments.act:
        # The service asks, and no person.
        return _act(replace(context, asked_by=""), model)
    if arguments.prometheus or arguments.grafana:
        return _definitions(context, model, arguments)
    found = traffic(context).levels(model, arguments.hours)
    total = total_throughput(found)
    values = {"hours": arguments.hours, "requests_per_s": total, "models": [report.as_dict() for report in found]}
    return Answer(slo_table.service_levels(found, total), values)


def notify(arguments: argparse.Namespace) -> Answer:
    """Sends a test message, or lists what people were told and wait for."""
    from pipeline.notices.listing import listing
    from pipeline.notices.sending import tested

    context = context_of_a_person()
    notices = context.params.notices
    faults = [str(fault) for fault in notices.faults.values()]
    if arguments.to and not arguments.test:
        raise SettingsError("notify --to", "names the recipient of a test message", "give --test too")
    if not arguments.test:
        told = listing(context.ledger, context.params)
        return Answer("\n".join([*faults, told.text()]), {"faults": faults, **told.as_dict()})
    chosen = [recipient for recipient in notices.to if arguments.to in ("", recipient.label)]
    if not chosen:
        known = ", ".join(recipient.label for recipient in notices.to) or "none"
        raise SettingsError(
            "notify --test",
            f"there is no recipient{arguments.to and f' {arguments.to}'} among notify.to",
            f"they are {known}",
        )
    outcomes = {recipient.label: tested(recipient) for recipient in chosen}
    lines = [*faults, *(f"{label}: {f'not told: {why}' if why else 'told'}" for label, why in outcomes.items())]
    values = [{"to": label, "told": not why, "why": why or None} for label, why in outcomes.items()]
    return Answer("\n".join(lines), {"faults": faults, "recipients": values}, 1 if any(outcomes.values()) else 0)


def _act(context: Context, model: str) -> Answer:
    """What the service slo does when a budget burns."""
    from pipeline.deployer.burnt_budget import roll_back_burnt

    if not model or context.environment.deployer:
        raise SettingsError("slo --act", "takes a MODEL, on one machine", "on a server the deployer does it by itself")
    done = roll_back_burnt(context, model)
    return Answer(str(done), done.as_dict())


def _definitions(context: Context, model: str, arguments: argparse.Namespace) -> Answer:
    """Writes Prometheus' rules and Grafana's dashboard."""
    from pipeline.reliability import grafana, prometheus

    slos = _slos(context, model)
    if not slos:
        raise SettingsError(
            "slo", "no model has objectives", "add `slo: {}` to a model's block; docs/slo.md has its keys"
        )
    texts = (
        (arguments.prometheus, prometheus.rules, (".yaml", ".yml", ".rules")),
        (arguments.grafana, grafana.dashboard, (".json",)),
    )
    wanted = [(file, make(slos), endings) for file, make, endings in texts if file is not None]
    for file, text, endings in wanted:
        write(file, text, *(context.project / name for name in SETTINGS), endings=endings)
    written = [str(file) for file, *_ in wanted]
    return Answer(
        "\n".join(f"{file}: the objectives of {', '.join(slos)}" for file in written),
        {"written": written, "models": list(slos)},
    )


def _slos(context: Context, model: str) -> dict[str, Slo]:
    if model:
        found = {model: context.params.model(model).slo}
    else:
        found = {name: block.slo for name, block in context.params.models.items()}
    return {name: slo for name, slo in found.items() if slo is not None}
