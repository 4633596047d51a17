"""Alerts from elsewhere that start a Dag: the body of an Alertmanager, or any JSON object that names a model.

An alert is known by its model and its name. Numbers, times and hosts differ each time that it is sent again, and are no part of that.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pipeline.errors import DataError, PerennialError
from pipeline.settings.models import Monitor, time_of

# Who triggers the runs that alerts ask for.
USER = "alert webhook"
MOST_BYTES = 262_144
# Of a text that goes into a reason for people.
MOST_TEXT = 200
# What senders call an alert that is over.
OVER = frozenset({"resolved", "inactive", "ok", "normal", "closed", "recovered"})
UNKNOWN_END = datetime(1970, 1, 1, tzinfo=UTC)
# Clocks differ by so much.
AHEAD = timedelta(minutes=5)
FORM = 'send {"model": "NAME"}, or an Alertmanager\'s body whose alerts have a label `model`'


@dataclass(frozen=True)
class Alert:
    """`name` is the kind of alert, `text` what it says of itself. `as_of` is the time that it asks for, None for now."""

    model: str
    name: str
    text: str = ""
    as_of: datetime | None = None

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(json.dumps([self.model, self.name]).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class DagRequest:
    """The run that an alert asks for. The same alert asks for the same run until the monitor's next look."""

    dag: str
    run: str
    conf: Mapping[str, str]


def alerts_of(body: bytes) -> tuple[list[Alert], list[str]]:
    """The alerts of a request, each kind once and none that is resolved; and a line for each that cannot be read.

    Raises DataError for a body that has no alerts.
    """
    try:
        values = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise DataError("alert", "is not JSON", FORM) from error
    if isinstance(values, list):
        # As Prometheus sends them to an Alertmanager.
        values = {"alerts": values}
    if not isinstance(values, dict):
        raise DataError("alert", f"is a JSON {type(values).__name__}, not an object", FORM)
    each = values["alerts"] if isinstance(values.get("alerts"), list) else [values]
    common = _mapping(values.get("commonLabels"))
    found: dict[str, Alert] = {}
    errors: list[str] = []
    for one in map(_mapping, each):
        if _is_over(one, values):
            continue
        try:
            alert = _alert(
                {**common, **one, **_mapping(one.get("labels"))}, {**one, **_mapping(one.get("annotations"))}
            )
            found.setdefault(alert.fingerprint, alert)
        except PerennialError as error:
            errors.append(str(error))
    return list(found.values()), list(dict.fromkeys(errors))


def _is_over(one: Mapping[str, Any], whole: Mapping[str, Any]) -> bool:
    """By its own word, by that of the body that it came in, or as Prometheus says it: by an end that is past."""
    word = one.get("status") or one.get("state") or whole.get("status") or whole.get("state")
    if word:
        return str(word).lower() in OVER
    try:
        end = time_of(str(one["endsAt"])) if one.get("endsAt") else None
    except PerennialError:
        return False
    # An Alertmanager writes the year 1 for an end that nobody knows.
    return end is not None and UNKNOWN_END < end <= datetime.now(UTC)


def _alert(labels: Mapping[str, Any], texts: Mapping[str, Any]) -> Alert:
    model = labels.get("model")
    if not isinstance(model, str) or not model:
        raise DataError("alert", "names no model" if model is None else "has a model that is no text", FORM)
    name = next((labels[key] for key in ("alertname", "alert", "name") if isinstance(labels.get(key), str)), "alert")
    text = next((texts[key] for key in ("summary", "description", "reason") if isinstance(texts.get(key), str)), "")
    as_of = labels.get("as_of")
    at = time_of(str(as_of)) if as_of else None
    if at is not None and at > datetime.now(UTC) + AHEAD:
        raise DataError(
            f"alert of {_shown(model)[:MOST_TEXT]}", f"has the as_of {as_of}, which is to come", "leave it out for now"
        )
    return Alert(_shown(model)[:MOST_TEXT], _shown(name)[:MOST_TEXT], _shown(" ".join(text.split()))[:MOST_TEXT], at)


def _shown(text: str) -> str:
    """Half of a letter, which JSON can escape and nothing can write, as a question mark."""
    return text.encode("utf-8", "replace").decode()


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def request_of(alert: Alert, monitor: Monitor, look: datetime) -> DagRequest:
    """The run that `monitor.on_alert` asks for. `look` is the newest one of the monitor's schedule."""
    at = alert.as_of or look
    conf = {"as_of": alert.as_of.isoformat()} if alert.as_of else {}
    if monitor.on_alert == "retrain":
        conf["reason"] = f"alert {alert.name}" + (f": {alert.text}" if alert.text else "")
    return DagRequest(f"{monitor.on_alert}__{alert.model}", f"alert__{alert.fingerprint}__{at:%Y-%m-%dT%H:%M:%S}", conf)
