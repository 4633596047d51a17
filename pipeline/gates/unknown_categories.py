"""Does the model know the categories of the held-out days?

A category that training never saw is answered as if the column said nothing. A column that is mostly such was renamed at its source, is
spelt another way now, or holds identifiers.
"""

from __future__ import annotations

from pipeline.gates.base import PackagedModel, Verdict

# The reason names at most this many columns.
NAMED_COLUMNS = 5


def verdict(packaged: PackagedModel) -> Verdict | None:
    """None for a model without categories. The observed figure is the largest share of a column's held-out values."""
    limit, held_out = packaged.model.gates.unknown_share, packaged.held_out
    shares: dict[str, tuple[float, str]] = {}
    for column in packaged.package.reader.schema.columns:
        if column.learnt is not None:
            values = held_out[column.name].replace("", None).dropna()
            # A refitted package knows those of the held-out rows too.
            known = column.learnt if packaged.known is None else packaged.known.get(column.name, column.learnt)
            unknown = values[~values.isin(known)]
            shares[column.name] = (
                len(unknown) / max(len(values), 1),
                str(unknown.iloc[0])[:40] if len(unknown) else "",
            )
    if not shares:
        return None
    largest = max(share for share, _ in shares.values())
    named = [f"{name} {share:.1%}, e.g. {example}" for name, (share, example) in shares.items() if share > 0]
    said = "; ".join(named[:NAMED_COLUMNS]) or "none"
    reason = f"categories that training never saw, of {len(held_out):,} held-out rows: {said}; at most {limit:.0%} of a column"
    if largest > limit:
        reason += "; was it renamed or spelt another way at its source, or does it identify rows? gates.unknown_share"
    return Verdict("unknown_categories", largest <= limit, largest, limit, reason)
