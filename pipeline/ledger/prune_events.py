"""The event of `prune`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.ledger.events import Event


class Pruned(Event, kind="pruned"):
    """What was removed of a model: `removed` is the number of things by kind, `bytes` their size, `versions` those whose package,
    artifacts and data are gone. `rules` are the settings, by key. `remote_bytes` are those of `bytes` that the DVC remote had for the model,
    left out by an older prune, which put all data with one model. `data_versions` are those whose own files are gone, with their lists, and
    `runs` those whose stages' files are: neither is looked for again."""

    removed: Mapping[str, int]
    bytes: int
    versions: Sequence[str]
    rules: Mapping[str, float | None]
    remote_bytes: int | None = None
    data_versions: Sequence[str] = ()
    runs: Sequence[str] = ()

    def sentence(self) -> str:
        things = ", ".join(f"{count} {kind}" for kind, count in self.removed.items()) or "nothing"
        gone = f"; versions {', '.join(self.versions)} cannot be deployed or rebuilt any more" if self.versions else ""
        return f"pruned {things}, {self.bytes / 1e6:.1f} MB{gone}"
