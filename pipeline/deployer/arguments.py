"""The verbs of the deployer's service, and the arguments that each takes: names and types are fixed."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Any

from pipeline.errors import SettingsError
from pipeline.settings.models import MODEL_NAME

TEXT, NUMBER, MAYBE, FLAG, LIST = (str,), (int, float), (str, type(None)), (bool,), (list,)
VERSION = re.compile(r"[0-9]{1,9}")
# The person who asks.
WHO: dict[str, tuple[type, ...]] = {"asked_by": TEXT}
# The arguments of each verb beside the model, with their types.
ARGUMENTS: dict[str, dict[str, tuple[type, ...]]] = {
    "deploy": {"version": TEXT, "reason": TEXT, "strategy": MAYBE, "wait_s": NUMBER, "accept_schema_change": FLAG}
    | WHO,
    "rollback": {"reason": TEXT, "only": TEXT} | WHO,
    "replace": {"reason": TEXT, "leaving": TEXT, "by": TEXT} | WHO,
    "undeploy": {"reason": TEXT} | WHO,
    "reconcile": {},
    "retire": {},
    "prune_log": {"dry_run": FLAG},
    "status": {},
    "levels": {"hours": NUMBER},
    "predictions": {"start": TEXT, "end": TEXT, "share": NUMBER},
    "profile": {"version": TEXT, "digest": TEXT, "start": TEXT, "end": TEXT},
    "evidence": {"version": TEXT},
    "serving_system": {"runtime": TEXT},
    "answered": {"request": TEXT},
    "log_files": {"partitions": LIST},
}
# A caller may leave these out.
OPTIONAL = {"accept_schema_change", "share", "only", *WHO}
# These verbs read the log, and answer the call itself.
OF_LOG = ("predictions", "profile", "log_files")
# These verbs take '' for all models.
FOR_ALL = ("reconcile", "status", "levels", "answered")


def arguments_of(verb: str, body: bytes) -> dict[str, Any]:
    """The arguments of a call: {"model", "call", …}. Raises SettingsError for a verb, a name or a value that is not allowed."""
    if verb not in ARGUMENTS:
        raise SettingsError(f"verb {verb[:40]}", "is not known", f"must be one of {', '.join(ARGUMENTS)}")
    try:
        arguments = json.loads(body)
    except ValueError as error:
        raise SettingsError(verb, "its arguments are no JSON", "send an object") from error
    types = {"model": TEXT, **ARGUMENTS[verb]} | ({} if verb in OF_LOG else {"call": TEXT})
    if not isinstance(arguments, dict) or set(arguments) | OPTIONAL & set(types) != set(types):
        raise SettingsError(verb, "its arguments have other names", f"send {', '.join(types)}")
    for name, allowed in types.items():
        if name in OPTIONAL and name not in arguments:
            continue
        if not isinstance(arguments[name], allowed) or isinstance(arguments[name], bool) != (allowed == FLAG):
            raise SettingsError(verb, f"{name} has another type", f"must be {allowed[0].__name__}")
    if not MODEL_NAME.fullmatch(arguments["model"]) and not (verb in FOR_ALL and arguments["model"] == ""):
        raise SettingsError(verb, "its model is not a valid name", "give a model of params.yaml")
    for name in ("version", "leaving", "by", "only"):
        if name in arguments and not VERSION.fullmatch(arguments[name]):
            raise SettingsError(verb, f"{name} is not a version", "give the registry's number")
    for name in ("start", "end"):
        if name in arguments:
            _check_time(verb, arguments[name])
    return arguments


def _check_time(verb: str, text: str) -> None:
    try:
        datetime.fromisoformat(text)
    except ValueError as error:
        raise SettingsError(verb, f"{text[:40]} is not a time", "write it as ISO 8601") from error
