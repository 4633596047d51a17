"""Answers as text for a terminal. The same facts go out as JSON with --json."""

from __future__ import annotations

import io
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from pipeline.rollout.results import Deployment, Rollback, ShadowResult

WIDTH = 110


def deployment(result: Deployment | ShadowResult) -> str:
    """One line on what came of a deploy."""
    if isinstance(result, ShadowResult):
        return f"shadow of version {result.version} says {result.verdict}: {result.reason}"
    if result.already_live:
        return f"version {result.version} is live already in {result.slot}"
    return (
        f"version {result.version} is live in {result.slot} ({result.engine_reason}); "
        f"ready after {result.ready_s:.2f} s, switched in {result.switch_s:.2f} s"
    )


def rollback(result: Rollback) -> str:
    """One line on what came of a rollback."""
    if result.called_back:
        return f"version {result.left} was called back, version {result.version} has all traffic"
    if result.already:
        return f"version {result.left} had been left already, version {result.version} has all traffic; nothing moved"
    return f"back on version {result.version} in {result.slot}, switched in {result.switch_s:.2f} s"


def text(*parts: Any) -> str:
    """Rich renderables as plain text."""
    out = io.StringIO()
    console = Console(file=out, width=WIDTH, highlight=False)
    for part in parts:
        console.print(part)
    return out.getvalue().rstrip()


def table(*columns: str, title: str | None = None) -> Table:
    """A table whose columns that start with '>' are set to the right."""
    made = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        made.add_column(column.lstrip(">"), justify="right" if column.startswith(">") else "left", overflow="fold")
    return made


def status(told: list[dict[str, Any]]) -> str:
    made = table("model", "version", ">share", "slot", "since", "answers", "to undo", "address")
    notes = []
    for m in told:
        live, candidate = m["live"], m["candidate"]
        if m["problem"]:
            notes.append(m["problem"])
        if live is None:
            made.add_row(
                m["model"], "-", "", "-", "-", "-", f"not live yet: retrain {m['model']} --deploy", m["address"]
            )
            continue
        shares = {s["version"]: s for s in m["shares"]}
        since = _minute(shares[live["version"]]["since"] or "?")
        warm = m["previous"] and m["previous"]["warm"]
        undo = f"{m['undo']} (to {m['previous']['version']}, warm)" if warm else m["undo"] or "no predecessor"
        answers = "yes" if live["answers"] else "NO: run reconcile"
        share = f"{shares[live['version']]['percent']} %"
        made.add_row(m["model"], live["version"], share, live["slot"], since, answers, undo, m["address"])
        if candidate is not None:
            share = f"copies of {candidate['percent']} %" if candidate["mirror"] else f"{candidate['percent']} %"
            answers = "yes" if candidate["answers"] else "NO"
            made.add_row("", candidate["version"], share, candidate["slot"], since, answers, "", "")
        if m["baking"]:
            why = f"; it holds: {m['holds']}" if m["holds"] else ""
            notes.append(f"{m['model']}: version {m['baking']} is baking{why}")
    return text(made, *notes)


def timeline(told: dict[str, Any]) -> str:
    if not told["events"]:
        return f"{told['model']}: nothing happened yet"
    made = table("at", "what")
    for event in told["events"]:
        made.add_row(event["at"], event["what"])
    live = told["live"]
    last = f"live: version {live['version']} in {live['slot']} since {live['since']}" if live else "live: nothing"
    return text(made, last)


def trace(told: dict[str, Any]) -> str:
    lines = []
    for model, history in told.get("revisions", {}).items():
        landed = "; ".join(
            f"{r['number']}, as of {r['as_of'][:10]}: {r['rows']:,} rows on {_minute(r['at'])} ({r['why']})"
            for r in history
        )
        lines.append(f"{model}: revisions of the partition {told['asked']}: {landed}")
    if told["unreadable"]:
        lines.append(f"in neither cache nor remote, and left out: {', '.join(told['unreadable'])}")
    if not told["versions"]:
        return "\n".join([*lines, f"no version was registered from it (data {', '.join(told['data_versions'])})"])
    made = table("model", "version", "registered as", "as of", "data", "revision", "live")
    for v in told["versions"]:
        live = [f"{_minute(p['from'])} to {_minute(p['until']) if p['until'] else 'now'}" for p in v["live"]]
        made.add_row(
            v["model"],
            v["version"],
            v["registered_as"],
            v["as_of"][:10],
            v["data_version"][:12],
            str(v["partition"]["revision"]) if v["partition"] else "",
            "; ".join(live) or "never",
        )
    return "\n".join([*lines, text(made)])


def _minute(at: str) -> str:
    return at[:16].replace("T", " ")


def rebuild(told: dict[str, Any]) -> str:
    made = table("what", "recorded", "rebuilt", "")
    for one in told["compared"]:
        made.add_row(one["what"], one["recorded"][:16], one["rebuilt"][:16], "same" if one["same"] else "DIFFERS")
    metrics = ", ".join(f"{name} {value:.6f}" for name, value in told["metrics"].items())
    differ = [one["what"] for one in told["compared"] if not one["same"]]
    verdict = "identical" if told["identical"] else f"differs in {', '.join(differ)}"
    lines = [text(made), f"metrics: {metrics}"]
    lines += [f"environment: {name} was {old}, is {new} here" for name, (old, new) in told["environment"].items()]
    lines.append(f"{told['model']} version {told['version']}: rebuilt in {told['wall_s']:.1f} s, {verdict}")
    return "\n".join(lines)


def costs(told: list[dict[str, Any]]) -> str:
    if not told:
        return "no run yet"
    parts = [run_costs(run) for run in told]
    total = sum(run["cost"] for run in told)
    return text(*parts, f"{len(told)} runs, {total:.4f} {told[0]['currency']} in all")


def run_costs(run: dict[str, Any]) -> Table:
    """One run's steps as a table."""
    made = table("step", "state", ">wall s", ">cpu s", ">peak MB", f">{run['currency']}", title=run["run"])
    for s in run["steps"]:
        if "cost" in s:
            made.add_row(
                s["step"],
                s["state"],
                f"{s['wall_s']:.1f}",
                f"{s['cpu_s']:.1f}",
                f"{s['peak_mb']:.0f}",
                f"{s['cost']:.5f}",
            )
        else:
            made.add_row(s["step"], s["state"], "", "", "", "")
    made.add_row(
        "all", "", f"{run['wall_s']:.1f}", f"{run['cpu_s']:.1f}", f"{run['peak_mb']:.0f}", f"{run['cost']:.5f}"
    )
    return made


def roi(told: dict[str, Any]) -> str:
    return (
        f"measured: {told['deployments']} deployments, {told['machine_cost']:.4f} {told['currency']} of machine time\n"
        f"claimed:  {told['engineer_hours_saved_low']:.1f} to {told['engineer_hours_saved_high']:.1f} engineer hours saved, "
        f"{told['net_low']:,.2f} to {told['net_high']:,.2f} {told['currency']} net\n"
        f"          against the manual baseline of {told['baseline_source']}: a claim of its authors, not a measurement"
    )


def drift(told: dict[str, Any]) -> str:
    lines = [f"{told['verdict']}: {told['reason']}"]
    if told["features"]:
        made = table("feature", ">PSI", ">limit", ">missing before", ">now", "")
        for f in sorted(told["features"], key=lambda f: -(f["psi"] or 0)):
            psi = "-" if f["psi"] is None else f"{f['psi']:.3f}"
            made.add_row(
                f["feature"],
                psi,
                f"{f['psi_limit']:.3f}",
                f"{f['missing_before']:.1%}",
                f"{f['missing_now']:.1%}",
                "moved" if f["moved"] else "",
            )
        lines.append(text(made))
    if told.get("asked_outside_window"):
        lines.append(
            f"{told['asked_outside_window']:,} more requests are outside the window from {told['window_start'][:10]} to "
            f"{told['as_of'][:10]}; --as-of moves it"
        )
    if "receipt" in told:
        receipt = told["receipt"]
        lines += [
            f"decision: {receipt['decision']}",
            *(f"  {r}" for r in receipt["reasons"]),
            f"  would flip with {receipt['would_flip']}",
        ]
    return "\n".join(lines)
