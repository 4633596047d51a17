"""Audits as text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.cli.plain_table import PlainTable

if TYPE_CHECKING:
    from pipeline.runs.audit import AuditedRequest, AuditLine

WIDTH = 110


def audit(model: str, lines: Sequence[AuditLine]) -> str:
    """A line for each thing that was done, and below it what proves it."""
    if not lines:
        return f"{model}: the ledger has nothing of that kind"
    out = []
    for line in lines:
        out.append(f"{line.at[:19].replace('T', ' ')}  {line.kind:<12}  {line.who}: {line.what}")
        proof = ", ".join(f"{name} {_shown(value)}" for name, value in line.evidence.items() if name != "changed")
        out.append(f"{'':21}{proof}" + (f", run {line.run}" if line.run else ""))
    return "\n".join(out)


def request(asked: str, answers: Sequence[AuditedRequest]) -> str:
    """Which version gave each answer, from which data, approved by whom."""
    return "\n\n".join(_answer(asked, answer) for answer in answers)


def _answer(asked: str, answer: AuditedRequest) -> str:
    rows = PlainTable("request", asked)
    by, trained, approved = answer.answered, answer.registered, answer.approved
    count = "1 row" if by.rows == 1 else f"{by.rows} rows"
    rows.add_row("answered", f"{by.received_at}, {count}, by version {by.version} of {by.model} in {by.slot}")
    rows.add_row("package", answer.package or "not known: the ledger has no rollout of it")
    if trained is None:
        rows.add_row("trained", "not known: the ledger has no registration of this version")
    else:
        rows.add_row("trained on", f"data version {trained['data_version']}, as of {trained['as_of']}")
        rows.add_row("registered", f"{trained['at']}, run {trained['run']}, MLflow run {trained['mlflow_run']}")
        rows.add_row("code", trained.get("code_revision") or "not known")
    if approved is None:
        rows.add_row("approved", "by nobody: it went live without an approval")
    else:
        why = f": {approved['reason']}" if approved.get("reason") else ""
        rows.add_row("approved", f"{approved['at']} by {approved['by']}, {approved['through']}{why}")
    if (other := answer.other_image) is not None:
        said = f"served by image {_shown(other['image'])}, and {_shown(other['approved'])} was approved: {other['why']}"
        rows.add_row("but", said)
    return rows.text(WIDTH)


def _shown(value: object) -> str:
    head, colon, digest = str(value).rpartition(":")
    return f"{head}{colon}{digest[:12]}" if len(digest) in (40, 64) and digest.isalnum() else str(value)
