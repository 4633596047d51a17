"""Does the new model take the same columns as the version that is live?

A slot refuses a request that lacks a column, has one too many, or breaks a column's rule. So a version with another schema
refuses requests that its predecessor answers, until clients change them. That must be on purpose: `--accept-schema-change`.
"""

from __future__ import annotations

from pipeline.gates.base import PackagedModel, Verdict
from pipeline.serving.signature import Field, Signature

ACCEPT = "tell the clients, then accept it: --accept-schema-change, or the field of that name in the form"


def verdict(packaged: PackagedModel) -> Verdict | None:
    """None for a backfill, which never goes live."""
    if packaged.backfill:
        return None
    if packaged.champion is None:
        return Verdict("schema", True, 0, 0, "there is no champion yet")
    changed = changes(packaged.champion.signature, packaged.package.signature)
    against = f"beside version {packaged.champion_version}"
    if not changed:
        return Verdict("schema", True, 0, 0, f"the same columns {against}")
    accepted = packaged.accept_schema_change
    how = "accepted on purpose" if accepted else ACCEPT
    return Verdict("schema", accepted, len(changed), 0, f"{against}: {', '.join(changed)}; {how}")


def changes(live: Signature, candidate: Signature) -> list[str]:
    """Each change that makes the candidate refuse a request which the live version takes, with its column's name."""
    before, now = ({f.name: f for f in signature.fields} for signature in (live, candidate))
    found = [f"column {name} is added" for name in now if name not in before]
    found += [f"column {name} is dropped" for name in before if name not in now]
    for name in before:
        if name in now and (how := _narrowed(before[name], now[name])):
            found.append(f"column {name} {how}")
    for what in ("key", "event_time"):
        one, other = getattr(live, what), getattr(candidate, what)
        if one != other:
            found.append(f"the {what.replace('_', ' ')} {one} is now {other}")
    return found


def _narrowed(before: Field, now: Field) -> str:
    if before.number != now.number:
        return "is now a number" if now.number else "is now text"
    if now.integer and not before.integer:
        return "is now a whole number"
    if before.nullable and not now.nullable:
        return "may no longer be missing"
    gone = [str(value) for value in before.allowed if value not in now.allowed]
    if now.allowed and (gone or not before.allowed):
        return f"may no longer be {', '.join(gone)}" if gone else "takes only listed values now"
    return ""
