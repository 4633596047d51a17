"""Do the held-out days have values where the days before them have values?"""

from __future__ import annotations

from pipeline.gates.base import ValidatedData, Verdict

# The reason names at most this many columns; the validation report has all of them.
NAMED_COLUMNS = 5


def verdict(data: ValidatedData) -> Verdict:
    """`observed` counts pairs of a column and a held-out day that lack their values; one fails the gate."""
    limit, missing = data.model.gates.contract.missing_a_day, data.validation["missing"]
    reason = "every held-out day has the values that days usually have"
    if missing:
        named = ", ".join(
            f"{m['column']} on {m['day']}: {m['share']:.0%} of {m['rows']:,} rows lack it, usually at most {m['usual']:.0%}"
            for m in missing[:NAMED_COLUMNS]
        )
        more = f" and {len(missing) - NAMED_COLUMNS} more" if len(missing) > NAMED_COLUMNS else ""
        reason = f"{named}{more}; was a column renamed?"
    return Verdict(
        "missing_values", not missing, len(missing), 0, f"at most {limit:.0%} of the usual values missing: {reason}"
    )
