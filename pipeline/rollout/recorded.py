"""The settings with which slots were started, as the ledger has them.

Each slot that proved itself has an event with the whole `rollout` section. So it is known with which settings a slot runs, and a
model whose block is gone or broken is started again as it ran: with its API keys and its personal columns, never with defaults.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from pydantic import BaseModel, ValidationError

from pipeline.ledger.events import Event
from pipeline.ledger.in_parts import in_parts
from pipeline.ledger.rollout_events import SettingsApplied, SlotReady, SlotStarting
from pipeline.ledger.store import EVENTS, Entry, Ledger
from pipeline.ledger.timeline import live_version
from pipeline.rollout.routing.route import RoutedSlot
from pipeline.settings.rollout import Rollout, Serving
from pipeline.settings.section import RECORDED

# Among so many of the newest events a slot's is looked for before all of them are read.
READ_FIRST = 8


def recorded_settings(ledger: Ledger, model: str, version: str = "") -> Rollout | None:
    """The newest settings with which `version` (default: the live one) was started; None when the ledger has none."""
    version = version or live_version(ledger, model)
    first: list[Entry[SlotReady | SettingsApplied]]
    first = ledger.last(SlotReady, SettingsApplied, model=model, count=READ_FIRST)
    found = _settings_in(first, version)
    if found is not None or len(first) < READ_FIRST:
        return found
    return _settings_in(_all(ledger, model, SlotReady, SettingsApplied), version)


def _settings_in(entries: Sequence[Entry[SlotReady | SettingsApplied]], version: str) -> Rollout | None:
    for entry in reversed(entries):
        if entry.event.version == version and (settings := _read(entry.event.settings)) is not None:
            return settings
    return None


def slot_settings(ledger: Ledger, model: str, routed: RoutedSlot) -> Rollout | None:
    """The settings with which what runs in this slot was started; None when the ledger does not have them."""
    entries: list[Entry[SlotStarting | SlotReady]]
    entries = ledger.last(SlotStarting, SlotReady, model=model, count=READ_FIRST)
    if len(entries) == READ_FIRST and not any(entry.event.slot == routed.slot for entry in entries):
        entries = _all(ledger, model, SlotStarting, SlotReady)
    last = next((entry.event for entry in reversed(entries) if entry.event.slot == routed.slot), None)
    # A start that was not proven comes after it: what runs there now may be that one.
    if not isinstance(last, SlotReady) or (last.version, last.address) != (routed.version, routed.address):
        return None
    return _read(last.settings)


def _all(ledger: Ledger, model: str, *kinds: type[Event]) -> list[Entry[Any]]:
    """The events of those kinds of this model alone: in a block that reads of many models, `events` reads those of all of them."""
    return [*in_parts(ledger, sa.and_(EVENTS.c.kind.in_([kind.KIND for kind in kinds]), EVENTS.c.model == model))]


def settings_of_version(
    ledger: Ledger, model: str, version: str, settings: Rollout, columns: frozenset[str] = frozenset()
) -> Rollout:
    """The settings for a slot with that version; `columns` are those of the model's block.

    `personal` may name only columns of the block. A column that an older version still takes, and that was dropped from the block
    since, stays personal for that version.
    """
    recorded = recorded_settings(ledger, model, version)
    personal = settings.serving.personal
    gone = set(recorded.serving.personal if recorded else ()) - set(personal) - columns
    if recorded is None or not gone:
        return settings
    kept = {column: how for column, how in recorded.serving.personal.items() if column in gone}
    serving = settings.serving.model_copy(update={"personal": {**kept, **personal}})
    return settings.model_copy(update={"serving": serving})


def is_outdated(
    ledger: Ledger, model: str, routed: RoutedSlot, settings: Rollout, columns: frozenset[str] = frozenset()
) -> bool:
    """Whether the slot runs with another `rollout.serving` than these settings have, or nobody knows with which."""
    running = slot_settings(ledger, model, routed)
    wanted = settings_of_version(ledger, model, routed.version, settings, columns)
    return running is None or _of_a_slot(running.serving) != _of_a_slot(wanted.serving)


def _of_a_slot(serving: Serving) -> Serving:
    """What a slot's server goes by: the rate limit is the router's, and the order of the keys does not matter."""
    return serving.model_copy(update={"rate_limit": 0, "api_keys": tuple(sorted(set(serving.api_keys)))})


def as_recorded(settings: Rollout) -> dict[str, Any]:
    """The settings as an event holds them. API keys are digests already."""
    return settings.model_dump(mode="json")


def _read(values: Mapping[str, Any] | None) -> Rollout | None:
    return _validated(json.dumps(values)) if values is not None else None


@functools.lru_cache(maxsize=1000)
def _validated(text: str) -> Rollout | None:
    """Of JSON: a status reads the same settings of hundreds of slots again and again, and to validate them takes most of its time."""
    try:
        return Rollout.model_validate(_known(Rollout, json.loads(text)), context=RECORDED)
    except ValidationError:
        return None


def _known(section: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """Without the keys that this version of the code no longer has, or does not have yet."""
    kept = {name: value for name, value in values.items() if name in section.model_fields}
    for name, field in section.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel) and isinstance(kept.get(name), Mapping):
            kept[name] = _known(inner, kept[name])
    return kept
