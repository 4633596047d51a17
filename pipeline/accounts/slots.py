"""What slots cost: each holds its processors and memory from its start to its end, by day and night, whoever asks it.

    cost = hours * (cpus * cpu_core_hour + memory_mb / 1024 * memory_gb_hour)

with `rollout.serving` of the settings with which it started. While two slots of a model run, the one that started last counts as the
live one and the other as a second slot: a candidate that is proven, or a predecessor that is kept warm. A slot that died is started
again by its keeper at once, so its hours go on until it is ended, another is started in its place, or the model is taken off.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.accounts.lines import SECOND_SLOT, SLOT, Line, Sum, ms_of, spans_of
from pipeline.ledger.rollout_events import SlotReady, SlotStarted, Undeployed
from pipeline.ledger.rollup_parts import SLOTS
from pipeline.ledger.rollups import rolled_up
from pipeline.ledger.store import Ledger
from pipeline.settings.accounts import Prices


@dataclass(frozen=True)
class Size:
    """The limits of a slot's container."""

    cpus: float = 1.0
    memory_mb: float = 512.0


USUAL = Size()


@dataclass
class SlotLife:
    """A slot that ran from `start` to `end`, milliseconds since 1970; `ended` is False while it runs."""

    model: str
    slot: str
    version: str
    start: int
    end: int
    size: Size
    ended: bool = False

    def hour(self, prices: Prices) -> float:
        """What an hour of it costs."""
        return self.size.cpus * prices.cpu_core_hour + self.size.memory_mb / 1024 * prices.memory_gb_hour


def slot_lives(ledger: Ledger, size: Callable[[str], Size], until: int, *, model: str = "") -> list[SlotLife]:
    """The slots in the order in which they started. `size` of a model is for those whose settings the ledger does not know."""
    lives: list[SlotLife] = []
    # Those of which nothing says their settings yet: to read a model's block takes longer than all of its slots.
    unsaid: dict[int, SlotLife] = {}
    running: dict[str, dict[str, SlotLife]] = defaultdict(dict)
    for name, at, kind, version, slot, cpus, memory_mb in rolled_up(ledger, SLOTS, model=model)[SLOTS]:
        slots = running[name]
        if kind == SlotReady.KIND:
            if slot in slots and cpus is not None and memory_mb is not None:
                slots[slot].size = Size(cpus, memory_mb)
                unsaid.pop(id(slots[slot]), None)
            continue
        for each in list(slots) if kind == Undeployed.KIND else [slot]:
            if each in slots:
                _end(slots.pop(each), at)
        if kind == SlotStarted.KIND:
            life = SlotLife(name, slot, version, at, until, USUAL)
            slots[slot] = unsaid[id(life)] = life
            lives.append(life)
    for life in unsaid.values():
        life.size = size(life.model)
    return lives


def _end(life: SlotLife, at: int) -> None:
    # A clock that was set back gives no hours below none.
    life.end, life.ended = max(at, life.start), True


def slot_lines(lives: Sequence[SlotLife], prices: Prices, month: str = "") -> list[Line]:
    """A line for each model, month and part; of `month` alone or of all ('')."""
    changes = [ms_of(since) for since, _ in prices.periods if since]
    sums: dict[tuple[str, str, str], Sum] = defaultdict(Sum)
    for life, part, start, end in segments(lives):
        for span in spans_of(month, start, end, changes):
            sums[part, life.model, span.month].add(span.hours, life.hour(span.prices(prices)))
    return [Line(part, model, month, of.amount, of.quantity) for (part, model, month), of in sums.items()]


def segments(lives: Sequence[SlotLife]) -> list[tuple[SlotLife, str, int, int]]:
    """(slot, part, start, end): each slot's life cut where it becomes the second one of its model, or is alone again."""
    found = []
    of_model: dict[str, list[SlotLife]] = defaultdict(list)
    for life in lives:
        of_model[life.model].append(life)
    for each in of_model.values():
        for i, life in enumerate(each):
            at = life.start
            # Those that started later, while this one ran.
            for j in range(i + 1, len(each)):
                other = each[j]
                if other.start >= life.end:
                    break
                begins, ends = max(other.start, at), min(other.end, life.end)
                if begins >= ends:
                    continue
                if at < begins:
                    found.append((life, SLOT, at, begins))
                found.append((life, SECOND_SLOT, begins, ends))
                at = ends
            if at < life.end:
                found.append((life, SLOT, at, life.end))
    return found
