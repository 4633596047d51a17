"""What happened to a model, and which version was live at a given time, told from the ledger."""

from __future__ import annotations

from typing import Any

from pipeline.ledger.data_revisions import REVISED
from pipeline.ledger.store import Event, Ledger

TOLD = (
    "run_opened",
    "data_landed",
    "gates_checked",
    "version_registered",
    "rollout_started",
    "slot_ready",
    "slot_ended",
    "route_moved",
    "rollout_holding",
    "step_baked",
    "shadow_ended",
    "abort_asked",
    "rollout_ended",
    "rollout_failed",
    "rolled_back",
    "watched",
    "drift_checked",
    "run_settled",
)


def timeline(ledger: Ledger, model: str, until: str = "") -> list[dict[str, Any]]:
    """The events a person asks about, oldest first, each with one line of what it says."""
    return [
        {"at": e.at, "kind": e.kind, "run": e.run, "what": sentence(e), **({"details": e.body} if e.body else {})}
        for e in ledger.events(kind=TOLD, model=model, until=until)
    ]


def sentence(event: Event) -> str:
    """One line for a person."""
    b = event.body
    match event.kind:
        case "run_opened":
            return f"run opened as of {b['as_of']}: {b['reason']}"
        case "data_landed":
            moved = f"{b['pushed_bytes']:,} bytes pushed" if b["remote"] else "no remote to push to"
            revised = sum(one.get("why") == REVISED for one in b["landed"].values())
            new = f"{len(b['landed'])} new" + (f", {revised} of them with {REVISED}" if revised else "")
            return f"data {b['data_version'][:12]}: {b['partitions']} partitions, {new}; {moved}"
        case "gates_checked":
            failed = [v["gate"] for v in b["verdicts"] if not v["passed"]]
            return f"gates: {len(b['verdicts'])} checked, " + (
                f"failed: {', '.join(failed)}" if failed else "all passed"
            )
        case "version_registered":
            return f"version {b['version']} registered from data {b['data_version'][:12]}"
        case "slot_ready":
            return f"version {b['version']} ready in {b['slot']} after {b['golden']} golden requests"
        case "rollout_started":
            return f"rollout of version {b['version']} begins, {b['strategy']}: {b['reason']}"
        case "slot_ended":
            lost = "nobody knows how many" if b["cut_off"] is None else b["cut_off"]
            return f"version {b['version']} ended in {b['slot']}, {lost} requests cut off"
        case "route_moved":
            share = f"copies of {b['percent']} %" if b.get("mirror") else f"{b.get('percent', 100)} %"
            return f"version {b['to']} gets {share}, moved in {b['switch_s']:.2f} s"
        case "rollout_holding":
            return f"version {b['version']} holds at its step: {b['reason']}"
        case "step_baked":
            return f"version {b['version']} proved itself at {b['percent']} %: {b['reason']}"
        case "shadow_ended":
            return f"shadow of version {b['version']} says {b['verdict']}: {b['reason']}"
        case "abort_asked":
            return f"called back: {b['reason']}"
        case "watched":
            return f"watch of version {b['champion']} says {b['decision']}: {b['reason']}"
        case "rollout_ended":
            return f"version {b['version']} live in {b['slot']}, switched in {b['switch_s']:.2f} s"
        case "rollout_failed":
            return f"version {b['version']} did not go live: {b['error']}"
        case "rolled_back":
            return f"back to version {b['version']} in {b['slot']}: {b['reason']}"
        case "drift_checked":
            return f"{b['verdict']}: {b['reason']}"
        case _:
            return f"run ended: {b['outcome']}"


def live_at(ledger: Ledger, model: str, until: str = "") -> dict[str, Any] | None:
    """{"version", "slot", "since", "engine"} of what was live at `until` (default now), or None."""
    moves = ledger.events(kind=("rollout_ended", "rolled_back"), model=model, until=until)
    if not moves:
        return None
    last = moves[-1]
    return {**{k: last.body.get(k) for k in ("version", "slot", "engine")}, "since": last.at}


def predecessor(ledger: Ledger, model: str, version: str) -> str | None:
    """The version that was live before `version` last was, or None."""
    moves = ledger.events(kind=("rollout_ended", "rolled_back"), model=model)
    others = [move.body["version"] for move in moves if move.body["version"] != version]
    return others[-1] if others else None


def unpulled_predecessor(ledger: Ledger, model: str, version: str) -> str | None:
    """The version that was live before `version`, but for those that were gone back from: nobody wants them back."""
    pulled: set[str] = set()
    others: list[str] = []
    for move in ledger.events(kind=("rollout_ended", "rolled_back"), model=model):
        now = move.body["version"]
        pulled.discard(now)
        if move.kind == "rolled_back":
            pulled.add(move.body.get("left", ""))
        if now != version:
            others.append(now)
    return next((other for other in reversed(others) if other not in pulled), None)


def live_periods(ledger: Ledger, model: str, version: str) -> list[dict[str, Any]]:
    """When `version` was live: [{"from", "until"}], until None for as long as it is."""
    periods: list[dict[str, Any]] = []
    current = None
    for move in ledger.events(kind=("rollout_ended", "rolled_back"), model=model):
        if move.body["version"] == current:
            continue
        if current == version:
            periods[-1]["until"] = move.at
        current = move.body["version"]
        if current == version:
            periods.append({"from": move.at, "until": None})
    return periods
