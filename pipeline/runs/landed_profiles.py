"""Profiles of a run's landed partitions, counted by workers beside the training, which the stage `evaluate` then takes.

`validate` draws the edges of the buckets from all rows. Then any worker can count any partition: it takes the files from the DVC remote, into
a folder of its own, since another step may have the run's workspace here. The profiles go to the remote, and the ledger says which
partitions they are of. What is missing the stage counts itself, so that nothing here has to succeed.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.context import Context
from pipeline.errors import DataError, PerennialError
from pipeline.ledger.events import RunOpened, StageKept
from pipeline.ledger.landed_events import LandedProfiled
from pipeline.ledger.store import Entry
from pipeline.runs import workspace_transfer
from pipeline.serving.schema.columns import FILE
from pipeline.settings import models, yaml_file
from pipeline.workspaces import dvc_graph, dvc_remote, own_block, whole_files, workspace

if TYPE_CHECKING:
    from datetime import date

    from pipeline.monitoring.profiles.layout import Layout
    from pipeline.monitoring.profiles.profile import Profile

# A group is what one task counts; of more rows than MOST_GROUPS such groups have, each has more.
MOST_GROUPS = 16
GROUP_ROWS = 1_000_000
# So many rows, or one partition, are in memory at once: the same worker may be training.
COUNTED_ROWS = 200_000

log = logging.getLogger(__name__)

Cached = Callable[[str], Path | None]


@dataclass(frozen=True)
class Landed:
    """What a run learns from, by DVC hashes: the partitions, the rows that are left out of them, the edges, and what `validate` says of them."""

    snapshot: str
    counts: str
    quarantine: str
    edges: str
    validation: str

    @classmethod
    def of_lock(cls, lock: Mapping[str, Any], model: str) -> Landed | None:
        """From the content of a run's dvc.lock; None before `validate`, and of code that draws the edges elsewhere."""
        hashes = {out["path"]: out["md5"] for stage in lock["stages"].values() for out in stage.get("outs", ())}
        files = dvc_graph.Artifacts(Path(), model)
        paths = (files.snapshot, files.counts, files.quarantine, files.edges, files.validation)
        found = [hashes.get(path.as_posix(), "") for path in paths]
        return cls(*found) if all(found) else None

    def counted(self, context: Context, model: str) -> list[Entry[LandedProfiled]]:
        """What was counted of exactly this, the newest first, in any run of the model. No partition is in two."""
        found, seen = list[Entry[LandedProfiled]](), set[str]()
        for entry in reversed(context.ledger.events(LandedProfiled, model=model)):
            told = entry.event
            same = (told.snapshot, told.quarantine, told.edges) == (self.snapshot, self.quarantine, self.edges)
            if same and seen.isdisjoint(told.partitions):
                found.append(entry)
                seen |= {*told.partitions}
        return found


def groups(context: Context, folder: str) -> list[dict[str, Any]]:
    """What tasks beside the training count of the run of this workspace: {"title": for people, "partitions": file names}; none below
    monitor.mapped_rows. What was counted for an earlier version, of the same data with the same edges, is not counted again."""
    opening, landed = _landed(context, folder)
    if landed is None:
        return []
    name = opening.model
    with dvc_remote.cached_files(context.project) as cached:
        rows = _rows_of_partitions(_whole(cached, landed.validation))
        settings = _settings(context, opening, _whole(cached, landed.counts))
        if (total := sum(rows.values())) < settings.monitor.mapped_rows:
            least = settings.monitor.mapped_rows
            log.info("%s: %d rows are counted by the stage itself (monitor.mapped_rows: %d)", name, total, least)
            return []
        known = {part for e in landed.counted(context, name) if cached(e.event.profiles) for part in e.event.partitions}
    left = {part: count for part, count in rows.items() if part not in known}
    found = grouped(left, max(GROUP_ROWS, -(-total // MOST_GROUPS)))
    log.info("%s: %d of %d partitions have no profile yet, groups: %d", name, len(left), len(rows), len(found))
    return [
        {
            "title": f"{at} of {len(found)}: {len(group)} {'days' if len(group) > 1 else 'day'}, {sum(map(left.__getitem__, group)):,} rows",
            "partitions": group,
        }
        for at, group in enumerate(found, 1)
    ]


def grouped(rows: Mapping[str, int], most: int) -> list[list[str]]:
    """Neighbours with at most so many rows, or one partition with more."""
    found: list[list[str]] = []
    size = 0
    for name in sorted(rows):
        if not found or size + rows[name] > most:
            found.append([])
            size = 0
        found[-1].append(name)
        size += rows[name]
    return found


def profile_group(context: Context, run: str, folder: str, group: Mapping[str, Any]) -> dict[str, Any]:
    """Counts a group's partitions here, and keeps their profiles in the DVC remote. Returns how many partitions and rows that were, and the hash."""
    opening, landed = _landed(context, folder)
    if landed is None:
        raise DataError(f"run {opening.run}", "has no landed data", "clear the run's first task")
    model = opening.model
    # A try of this task before may have counted them.
    known = {part for entry in landed.counted(context, model) for part in entry.event.partitions}
    names = [part for part in group["partitions"] if part not in known]
    if not names:
        return {"partitions": 0, "rows": 0, "profiles": ""}
    with tempfile.TemporaryDirectory(prefix="perennial-landed-") as kept:
        with dvc_remote.cached_files(context.project) as cached:
            hashes = dvc_remote.listings(context.project, [landed.snapshot])[landed.snapshot] or {}
            # All at once: each question to a remote waits for its network.
            own = (landed.counts, landed.quarantine, landed.edges, landed.validation)
            dvc_remote.bring(context.project, [*own, *(hashes[name] for name in (FILE, *names) if name in hashes)])
            layout, days = _counted(context, opening, landed, hashes, names, cached)
        from pipeline.monitoring.profiles import counted_before

        file = Path(kept) / "profiles"
        file.write_bytes(counted_before.packed(layout, days))
        md5, size = dvc_remote.keep(context.project, file)
    rows = sum(profile.rows for profile in days.values())
    told = LandedProfiled(
        snapshot=landed.snapshot,
        quarantine=landed.quarantine,
        edges=landed.edges,
        profiles=md5,
        partitions=names,
        rows=rows,
        pushed_bytes=size,
    )
    context.ledger.append(told, model, run)
    log.info("%s: %s", model, told.sentence())
    return {"partitions": len(names), "rows": rows, "profiles": md5}


def _counted(
    context: Context,
    opening: Entry[RunOpened],
    landed: Landed,
    hashes: Mapping[str, str],
    names: Sequence[str],
    cached: Cached,
) -> tuple[Layout, dict[date, Profile]]:
    """The profiles of the partitions' days, counted some partitions at a time."""
    from pipeline.data import contract
    from pipeline.monitoring import drift_reference
    from pipeline.monitoring.profiles import counted_before
    from pipeline.monitoring.profiles.layout import Layout
    from pipeline.serving.schema import Schema
    from pipeline.training import frames

    settings = _settings(context, opening, _whole(cached, landed.counts))
    layout = Layout.of_file(_whole(cached, landed.edges))
    schema = Schema.from_json(dvc_graph.read_json(_whole(cached, hashes[FILE])))
    broken = contract.broken_numbers(_whole(cached, landed.quarantine))
    days: dict[date, Profile] = {}
    landed_rows = _rows_of_partitions(_whole(cached, landed.validation))
    for files, numbers in blocks(names, landed_rows, broken):
        rows = contract.kept_of([_whole(cached, hashes[name]) for name in files], schema, numbers)
        # By their numbers the rows of the quarantine are left out.
        if len(rows) + len(numbers) != sum(landed_rows[name] for name in files):
            raise DataError(
                f"partition {files[0]}", "has other rows than the run's validation.json", "the stage counts it"
            )
        taught = frames.taught(rows, settings)
        if len(taught):
            days = counted_before.added(days, drift_reference.days_counted(taught, settings, schema.doubles, layout))
    return layout, days


def blocks(names: Sequence[str], rows: Mapping[str, int], broken: Any) -> Iterator[tuple[list[str], Any]]:
    """Some of the partitions each, with the numbers, in these, of their rows in quarantine."""
    import numpy as np

    begins, at = {}, 0
    for name in sorted(rows):
        begins[name], at = at, at + rows[name]
    for block in grouped({name: rows[name] for name in names}, COUNTED_ROWS):
        numbers, before = [], 0
        for name in block:
            own = broken[(broken >= begins[name]) & (broken < begins[name] + rows[name])]
            numbers.append(own - begins[name] + before)
            before += rows[name]
        yield block, np.concatenate(numbers)


@contextmanager
def at_hand(context: Context, opened: workspace.Workspace, stage: str) -> Iterator[None]:
    """While a stage runs that writes the reference, on a server, the profiles that workers counted of exactly its data lie in the workspace."""
    if not context.server_mode or opened.files.reference not in dvc_graph.outs(opened.folder, stage, opened.model):
        yield
        return
    shutil.rmtree(opened.files.counted, ignore_errors=True)
    _bring(context, opened)
    try:
        yield
    finally:
        shutil.rmtree(opened.files.counted, ignore_errors=True)


def _bring(context: Context, opened: workspace.Workspace) -> None:
    """Whatever hinders is said, and then the stage counts itself."""
    landed = Landed.of_lock(yaml_file.parse((opened.folder / workspace_transfer.LOCK).read_text("utf-8")), opened.model)
    if landed is None:
        return
    partitions = 0
    with dvc_remote.cached_files(opened.folder) as cached:
        for entry in landed.counted(context, opened.model):
            told = entry.event
            try:
                opened.files.counted.mkdir(exist_ok=True)
                shutil.copy(_whole(cached, told.profiles), opened.files.counted / told.profiles)
                partitions += len(told.partitions)
            except (PerennialError, OSError) as error:
                line = "%s: the stage counts %d landed partitions, whose profiles cannot be read: %s"
                log.warning(line, opened.model, len(told.partitions), error)
    if partitions:
        log.info("%s: other workers have counted %d landed partitions", opened.model, partitions)


def _landed(context: Context, folder: str) -> tuple[Entry[RunOpened], Landed | None]:
    """The run of a workspace, which need not be on this worker, and what it learns from as its newest stage left it."""
    opening = workspace_transfer.last_opening(context, folder)
    kept = context.ledger.events(StageKept, run=opening.run, after=opening.seq)
    return opening, Landed.of_lock(yaml_file.parse(kept[-1].event.lock), opening.model) if kept else None


def _whole(cached: Cached, md5: str) -> Path:
    path = cached(md5)
    if path is None or not whole_files.is_whole(path, md5):
        raise DataError(f"file {md5}", "is not whole in the DVC cache or its remote", "check the remote's files")
    return path


def _rows_of_partitions(validation: Path) -> dict[str, int]:
    """By file name, with those in quarantine."""
    told = dvc_graph.read_json(validation)["quarantined_a_day"]
    return {f"{day}.parquet": rows for day, (_, rows) in told.items()}


def _settings(context: Context, opening: Entry[RunOpened], counts: Path) -> models.Model:
    """The model's settings in the run, as its stages have them."""
    with tempfile.TemporaryDirectory() as folder:
        # By the second, what steps there are.
        for name in ("params.yaml", "dvc.yaml"):
            text = workspace.text_of(context.project, opening.event.code_revision, name)
            (Path(folder) / name).write_text(text, encoding="utf-8")
        own_block.keep(Path(folder) / "params.yaml", opening.model)
        settings = models.load(Path(folder), context.environment.params_read).model(opening.model)
    return settings.model_copy(update={"as_of": dvc_graph.as_of(counts)})
