"""Is the package small enough for its slot? A slot loads it into memory, and each version of it is kept."""

from __future__ import annotations

from pipeline.gates.base import PackagedModel, Verdict


def verdict(packaged: PackagedModel) -> Verdict | None:
    """None where nobody measured it."""
    limit = packaged.model.gates.export.size_mb
    if not packaged.package_bytes:
        return None
    size = packaged.package_bytes / 1e6
    reason = f"{size:,.2f} MB in the package, served by {packaged.package.platform}, at most {limit:g} MB (gates.export.size_mb)"
    return Verdict("package_size", size <= limit, size, limit, reason)
