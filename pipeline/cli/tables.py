"""Answers as text for a terminal. --json gives the same facts as JSON."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipeline.cli.plain_table import PlainTable

# rich and what a rollout gives back are imported where they are used: `status` uses neither, and answers at once.
if TYPE_CHECKING:
    from rich.table import Table

    from pipeline.deployer.model_status import ModelStatus
    from pipeline.init.run import Result as InitResult
    from pipeline.ledger.timeline import LiveVersion, TimelineEvent
    from pipeline.monitoring.drift import DriftVerdict
    from pipeline.rollout.results import Deployment, Rollback, ShadowResult, Undeployment
    from pipeline.runs.drift_check import DriftCheck
    from pipeline.runs.ledger_check import LedgerCheck
    from pipeline.runs.provenance import Trace
    from pipeline.runs.rebuild import RebuildResult

WIDTH = 110


def init(result: InitResult) -> str:
    """Each assumption in one line; then the block, when it was not written, or what to do next."""
    said = [*map(str, result.draft.assumptions), *map(str, result.draft.left_out)]
    model = result.draft.model
    end = (
        f"params.yaml has the block models.{model} now; next: perennial retrain {model} --deploy"
        if result.written
        else f"params.yaml was not changed; this is the block:\n\n{result.block}"
    )
    return "\n".join([*said, end])


def deployment(result: Deployment | ShadowResult) -> str:
    """A deploy's result in one line."""
    from pipeline.rollout.results import ShadowResult

    if isinstance(result, ShadowResult):
        return f"shadow of version {result.version} says {result.verdict}: {result.reason}"
    if result.already_live:
        changed = "".join(f"\n  {line}" for line in result.changed or ())
        return f"version {result.version} is live already in {result.slot}" + changed
    return (
        f"version {result.version} is live in {result.slot} ({result.engine_reason}); "
        f"ready after {result.ready_s:.2f} s, switched in {result.switch_s:.2f} s"
    )


def rollback(result: Rollback) -> str:
    """A rollback's result in one line."""
    if result.called_back:
        return f"version {result.left} was called back, version {result.version} has all traffic"
    if result.already:
        return f"version {result.left} had been left already, version {result.version} has all traffic; nothing moved"
    return f"back on version {result.version} in {result.slot}, switched in {result.switch_s:.2f} s"


def text(*parts: Any) -> str:
    """Rich renderables as plain text; what is text already keeps its lines."""
    from rich.console import Console

    out = io.StringIO()
    # FORCE_COLOR, which CI sets, would put a terminal's codes into it.
    console = Console(file=out, width=WIDTH, highlight=False, force_terminal=False, color_system=None)
    for part in parts:
        console.print(part, soft_wrap=isinstance(part, str))
    return out.getvalue().rstrip()


def undeployment(model: str, result: Undeployment, has_block: bool) -> str:
    was = f"version {result.version} is off the router" if result.version else "off the router"
    ended = f"; ended {', '.join(result.ended)}" if result.ended else ""
    later = f"; its next run brings a version live again unless you pause retrain__{model}" if has_block else ""
    return f"{was}{ended}{later}"


def table(*columns: str, title: str | None = None) -> Table:
    """An empty table; a column whose name starts with '>' is aligned to the right."""
    from rich import box
    from rich.table import Table

    empty = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        empty.add_column(column.lstrip(">"), justify="right" if column.startswith(">") else "left", overflow="fold")
    return empty


def status(models: list[ModelStatus], faults: Sequence[str] = ()) -> str:
    """`faults` are those of params.yaml that are no model's own."""
    rows = PlainTable("model", "version", ">share", "slot", "since", "answers", "to undo", "address")
    notes = list(faults)
    for m in models:
        live, candidate = m.live, m.candidate
        notes += [f"{m.model}: {line}" for line in (m.fault or "").splitlines()]
        if m.problem:
            notes.append(m.problem)
        notes += [f"{m.model}: {m.note}"] if m.note else []
        notes += m.registry
        notes += [f"{m.model}: {m.log}"] if m.log else []
        notes += [f"{m.model}: {m.frozen}"] if m.frozen else []
        notes += [f"{m.model}: {m.burning}"] if m.burning else []
        notes += [f"{m.model}: {m.no_verdict}"] if m.no_verdict else []
        notes += [f"{m.model}: {m.labels}"] if m.labels else []
        notes += [f"{m.model}: scored {m.scored}"] if m.scored else []
        notes += [f"{m.model}: rollout.limits: {', '.join(m.limits_off)} off"] if m.limits_off else []
        if live is None:
            rows.add_row(
                m.model,
                "-",
                "",
                "-",
                "-",
                "-",
                "" if m.fault else f"not live yet: retrain {m.model} --deploy",
                m.address,
            )
            continue
        share = next(share for share in reversed(m.shares) if share.version == live.version)
        answers = "yes" if live.answers else "NO"
        helps = f"; run `{live.what_helps}`" if live.what_helps else ""
        notes += [f"{m.model}: does not answer: {live.why_not}{helps}"] if live.why_not else []
        since = _minute(share.since or "?")
        rows.add_row(m.model, live.version, f"{share.percent} %", live.slot, since, answers, _undo(m), m.address)
        if candidate is not None:
            percent = f"copies of {candidate.percent} %" if candidate.mirror else f"{candidate.percent} %"
            answers = "yes" if candidate.answers else "NO"
            rows.add_row("", candidate.version, percent, candidate.slot, since, answers, "", "")
        notes += [f"{m.model}: {m.evidence}"] if m.evidence else []
        if m.baking:
            hold = f"; it holds: {m.holds}" if m.holds else ""
            notes.append(f"{m.model}: version {m.baking} is baking{hold}")
    # That MLflow is away is one line, for however many models.
    return "\n".join([rows.text(WIDTH), *dict.fromkeys(notes)])


def _undo(model: ModelStatus) -> str:
    """The command that rolls back, and where it leads when that is warm."""
    if model.previous and model.previous.warm:
        return f"{model.undo} (to {model.previous.version}, warm)"
    return model.undo or "no predecessor"


def timeline(model: str, live: LiveVersion | None, events: list[TimelineEvent]) -> str:
    if not events:
        return f"{model}: nothing happened yet"
    rows = PlainTable("at", "what")
    for event in events:
        mark = f" (a clock was set back: an earlier event has {event.earlier})" if event.earlier else ""
        rows.add_row(event.at, event.what + mark)
    last = f"live: version {live.version} in {live.slot} since {live.since}" if live else "live: nothing"
    return "\n".join([rows.text(WIDTH), last])


def ledger_check(checked: LedgerCheck) -> str:
    """A check of the ledger, and what it could not check."""
    whole = f"ledger: {checked.events} events, the chain is intact; {checked.anchors} anchors outside it agree"
    return "\n".join([checked.problem or whole, *checked.notes])


def trace(traced: Trace) -> str:
    lines = []
    for model, history in (traced.revisions or {}).items():
        landed = "; ".join(
            f"{r.number}, as of {r.as_of[:10]}: {r.rows:,} rows on {_minute(r.at)} ({r.why})" for r in history
        )
        lines.append(f"{model}: revisions of the partition {traced.data}: {landed}")
    if traced.unreadable:
        lines.append(f"in neither cache nor remote, and left out: {', '.join(traced.unreadable)}")
    if not traced.versions:
        return "\n".join([*lines, f"no version was registered from it (data {', '.join(traced.data_versions)})"])
    rows = PlainTable("model", "version", "registered as", "as of", "data", "revision", "live")
    for v in traced.versions:
        live = [f"{_minute(p.start)} to {_minute(p.end) if p.end else 'now'}" for p in v.live]
        rows.add_row(
            v.model,
            v.version,
            v.registered_as,
            v.as_of[:10],
            v.data_version[:12],
            str(v.partition.revision) if v.partition else "",
            "; ".join(live) or "never",
        )
    return "\n".join([*lines, rows.text(WIDTH)])


def _minute(at: str) -> str:
    return at[:16].replace("T", " ")


def rebuild(result: RebuildResult) -> str:
    rows = table("what", "recorded", "rebuilt", "")
    for compared in result.compared:
        same = "same" if compared.same else "DIFFERS"
        rows.add_row(compared.what, compared.recorded[:16], compared.rebuilt[:16], same)
    metrics = ", ".join(f"{name} {value:.6f}" for name, value in result.metrics.items())
    differ = [compared.what for compared in result.compared if not compared.same]
    verdict = "identical" if result.identical else f"differs in {', '.join(differ)}"
    lines = [text(rows), f"metrics: {metrics}"]
    lines += [f"environment: {name} was {old}, is {new} here" for name, (old, new) in result.environment.items()]
    lines.append(f"{result.model} version {result.version}: rebuilt in {result.wall_s:.1f} s, {verdict}")
    return "\n".join(lines)


def search(model: str, version: str, found: Mapping[str, Any]) -> str:
    """The candidates of a search by how far they came, the last rung first."""
    from pipeline.training.search.run import said

    if not found:
        return f"{model} version {version}: the options of params.yaml, without a search (training.search)"
    rows = table("candidate", "rung", ">rows", f">{found['metric']}", "options")
    for fit in sorted(found["scores"], key=lambda fit: (-fit["rung"], fit["candidate"])):
        options = ", ".join(f"{name} {value}" for name, value in found["options"][fit["candidate"]].items())
        score = "could not be fitted" if fit["score"] is None else f"{fit['score']:.4f}"
        rows.add_row(str(fit["candidate"]), str(fit["rung"] + 1), f"{fit['rows']:,}", score, options or "as given")
    return f"{text(rows)}\n{model} version {version}: {said(found)}"


def drift(verdict: DriftVerdict) -> str:
    first = f"{verdict.verdict}: {verdict.reason}"
    if verdict.limits:
        first += f"\n{verdict.limits}"
    if not verdict.features:
        return first
    # Two files have no model to which something matters.
    weighed = any(feature.importance is not None for feature in verdict.features)
    matters = [">importance"] if weighed else []
    rows = table("feature", ">times its limit", *matters, ">PSI", ">limit", ">missing before", ">now", "")
    for feature in sorted(verdict.features, key=lambda feature: (feature.moved, feature.rank), reverse=True):
        f = feature.as_dict()
        rows.add_row(
            f["feature"],
            f"{f['times_limit']:.2f}",
            *(["-" if f["importance"] is None else f"{f['importance']:.4f}"] if weighed else []),
            "-" if f.get("psi") is None else f"{f['psi']:.3f}",
            "-" if f.get("psi_limit") is None else f"{f['psi_limit']:.3f}",
            # What is missing is said of the columns, and not again of their difference.
            *("-" if f.get(side) is None else f"{f[side]:.1%}" for side in ("missing_before", "missing_now")),
            "moved" if f["moved"] else "" if f["judged"] else "no verdict",
        )
    return f"{first}\n{text(rows)}" + (f"\n{_slices(verdict)}" if verdict.slices else "")


def _slices(verdict: DriftVerdict) -> str:
    rows = table("slice", ">rows before", ">now", "furthest", ">times its limit", "")
    for of in sorted((of.as_dict() for of in verdict.slices), key=lambda of: -(of["times_limit"] or 0.0)):
        rows.add_row(
            of["slice"],
            f"{of['rows_before']:,}",
            "-" if of["rows_now"] is None else f"{of['rows_now']:,}",
            of["furthest"] or "-",
            "-" if of["times_limit"] is None else f"{of['times_limit']:.2f}",
            "" if of["verdict"] == "not moved" else of["verdict"],
        )
    return text(rows)


def drift_check(check: DriftCheck, decided_by: str = "") -> str:
    """`decided_by` is what decides in place of this look, in words; '' where the look does."""
    lines = [*filter(None, [check.said]), drift(check.drift)]
    if check.asked_outside_window:
        lines.append(
            f"{check.asked_outside_window:,} more requests are outside the window from {check.window_start:%Y-%m-%d} to "
            f"{check.as_of:%Y-%m-%d}; --as-of moves it"
        )
    if check.without_event_time:
        lines.append(
            f"without an event time: {check.without_event_time:,} of the requests in the window; they count by their time of receipt, "
            "and get a label only where their key has a single one"
        )
    if check.damaged_log_files:
        lines.append(f"damaged files of the prediction log: {check.damaged_log_files}; their rows are left out")
    lines += check.data_lines
    lines += check.notes
    receipt = check.receipt
    lines += [
        f"decision: {receipt.decision}{f', by the rule drift; {decided_by}' if decided_by else ''}",
        *(f"  {reason}" for reason in receipt.reasons),
        f"  would flip with {receipt.would_flip}",
    ]
    return "\n".join(lines)
