"""Is the share of rows that break the data's contract small enough?"""

from __future__ import annotations

from pipeline.data.contract import faults_line
from pipeline.gates.base import ValidatedData, Verdict


def verdict(data: ValidatedData) -> Verdict:
    """`observed` is a share of the window's rows, from 0 to 1."""
    report, limit = data.validation, data.model.gates.contract.max_bad_share
    share = report["quarantined"] / report["in"]
    reason = f"{report['quarantined']:,} of {report['in']:,} rows break the contract ({share:.2%})"
    if report["faults"]:
        reason += f": {faults_line(report)}"
    return Verdict("data_contract", share <= limit, share, limit, reason)
