"""Does the new model take the same columns as the version that is live?

A slot refuses a request that lacks a column, has one too many, or breaks a column's rule. So a version with another schema
refuses requests that its predecessor answers, until clients change them. In another time zone it answers, as if they had sent another
time. Both must be on purpose: `--accept-schema-change`.

What the prediction log of the live version cannot tell the candidate is said, and refuses nothing.
"""

from __future__ import annotations

from pipeline.gates.base import PackagedModel, Verdict
from pipeline.serving import comparable
from pipeline.serving.schema import Column, Schema

ACCEPT = "tell the clients, then accept it: --accept-schema-change, or the field of that name in the form"


def verdict(packaged: PackagedModel) -> Verdict | None:
    """None for a backfill, which never goes live."""
    if packaged.backfill:
        return None
    if packaged.champion is None:
        return Verdict("schema", True, 0, 0, "there is no champion yet")
    schemas = packaged.champion.reader.schema, packaged.package.reader.schema
    changed, unlike = changes(*schemas), comparable.unlike_groups(*schemas)
    untold = f"; not comparable on logged requests: {'; '.join(unlike)}" if unlike else ""
    before, now = packaged.champion.task, packaged.package.task
    # A client reads another form of answer, or another meaning.
    changed += [f"task {before} is now {now}"] if before != now else []
    against = f"beside version {packaged.champion_version}"
    if not changed:
        return Verdict("schema", True, 0, 0, f"the same columns {against}{untold}")
    accepted = packaged.accept_schema_change
    how = "accepted on purpose" if accepted else ACCEPT
    return Verdict("schema", accepted, len(changed), 0, f"{against}: {', '.join(changed)}; {how}{untold}")


def changes(live: Schema, candidate: Schema) -> list[str]:
    """Each change that makes the candidate refuse a request which the live version takes, or read another time in it, with its column's name."""
    before, now = ({column.name: column for column in schema.columns} for schema in (live, candidate))
    found = [f"column {name} is added" for name in now if name not in before]
    found += [f"column {name} is dropped" for name in before if name not in now]
    for name in before:
        if name in now and (how := _narrowed(before[name], now[name], bounds=not live.strict)):
            found.append(f"column {name} {how}")
    for what in ("key", "event_time"):
        one, other = getattr(live, what), getattr(candidate, what)
        if one and one != other:
            named = what.replace("_", " ")
            found.append(f"the {named} {one} is now {other}" if other else f"the {named} {one} is dropped")
    if live.timezone != candidate.timezone:
        times = [column.name for column in candidate.columns if column.kind == "datetime"]
        named = ", ".join(dict.fromkeys([*times, candidate.event_time or "a time"]))
        found.append(f"{named} without a zone is now a time in {candidate.timezone}, not in {live.timezone}")
    if live.epoch not in (None, candidate.epoch):
        now_as = f"times in {candidate.epoch}" if candidate.epoch else "no times"
        found.append(f"numbers as event times, in {live.epoch}, are now {now_as}")
    return found


KINDS = {
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "datetime": "a time",
    "text": "free text",
    "category": "text",
}


def _narrowed(before: Column, now: Column, bounds: bool) -> str:
    """What of a column's values is refused now; `bounds` says whether the live version knows any."""
    if before.kind != now.kind and (before.kind, now.kind) != ("integer", "number"):
        return f"is now {KINDS[now.kind]}"
    if bounds and now.min is not None and (before.min is None or before.min < now.min):
        return f"must now be at least {now.min:g}"
    if bounds and now.max is not None and (before.max is None or before.max > now.max):
        return f"must now be at most {now.max:g}"
    if before.nullable and not now.nullable:
        return "may no longer be missing"
    gone = [str(value) for value in before.allowed if value not in now.allowed]
    if now.allowed and (gone or not before.allowed):
        return f"may no longer be {', '.join(gone)}" if gone else "takes only listed values now"
    return ""
