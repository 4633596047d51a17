"""A lease: the right to change what is live of one model, for as long as its holder renews it.

The lease is a row of the ledger's database, so that all machines that share the ledger share it. Each holder draws the next
number, the fencing token. A holder that slept while another took the lease has an outdated number and is refused before it
changes anything (Kleppmann, How to do distributed locking, 2016). The time is the database's own, not the machines'.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import sqlalchemy as sa

from pipeline.errors import LeaseBusy, LedgerError, RolloutError
from pipeline.ledger.store import Ledger
from pipeline.settings.process_identity import ProcessIdentity, this_process

# How long a lease is valid after its last renewal. A live holder renews it three times in this time.
HELD_S = 5.0
TRY_AGAIN_S = 0.1
# A holder that could not renew its lease for so long stops: a disk that is full keeps its events from being written too.
RENEWAL_LIMIT_S = 2 * HELD_S
# Whoever wants the lease waits so long for a recovery, which nobody asked for and which ends by itself.
RECOVERY_WAIT_S = 30.0
RECOVERY = "recovery by "

log = logging.getLogger(__name__)

LEASES = sa.Table(
    "leases",
    sa.MetaData(),
    sa.Column("model", sa.String(40), primary_key=True),
    sa.Column("token", sa.Integer, nullable=False),
    sa.Column("holder", sa.String(300), nullable=False),
    sa.Column("until", sa.Float, nullable=False),
)


@dataclass
class Lease:
    """A holder's right to one model. `token` is larger for each later holder; `renewed_at` is in monotonic seconds."""

    ledger: Ledger
    model: str
    token: int
    holder: str
    renewed_at: float = field(default_factory=time.monotonic)

    def check(self) -> None:
        """Raises RolloutError when another process has taken the lease since, LedgerError when it could not be renewed for long."""
        waited = time.monotonic() - self.renewed_at
        if waited > RENEWAL_LIMIT_S:
            raise LedgerError(
                f"lease of {self.model}",
                f"could not be renewed for {waited:.0f} s",
                "is its disk full, or its database away? what was live stays live",
            )
        with self.ledger.writing() as connection:
            current = _row(connection, self.model)
        if current is None or current.token != self.token:
            by = f" by {current.holder.partition(' (')[0]}" if current and current.holder else ""
            raise RolloutError(
                f"model {self.model}",
                f"this rollout was overtaken{by}",
                f"see `perennial timeline {self.model}`, then start the rollout again",
            )

    def renew(self) -> bool:
        """Extends the lease by HELD_S seconds; False when another process has taken it."""
        with self.ledger.writing() as connection:
            mine = (LEASES.c.model == self.model) & (LEASES.c.token == self.token)
            until = _now(connection) + HELD_S
            renewed = connection.execute(LEASES.update().where(mine).values(until=until)).rowcount == 1
        self.renewed_at = time.monotonic()
        return renewed

    def release(self) -> None:
        """Ends the lease. Its number stays, so that the next holder's is larger."""
        with self.ledger.writing() as connection:
            mine = (LEASES.c.model == self.model) & (LEASES.c.token == self.token)
            connection.execute(LEASES.update().where(mine).values(until=0.0, holder=""))


def take(ledger: Ledger, model: str, holder: str, above: int = 0) -> Lease | None:
    """The model's lease with a number above `above`, or None while another process holds it. Raises LedgerError."""
    with ledger.writing() as connection:
        LEASES.create(connection, checkfirst=True)
        current, now = _row(connection, model), _now(connection)
        if current is not None and current.until > now and not _has_ended(current.holder):
            return None
        token = max(current.token if current else 0, above) + 1
        row = {"model": model, "token": token, "holder": holder, "until": now + HELD_S}
        if current is None:
            connection.execute(LEASES.insert().values(**row))
        else:
            connection.execute(LEASES.update().where(LEASES.c.model == model).values(**row))
    return Lease(ledger, model, token, holder)


@contextmanager
def held(ledger: Ledger, model: str, wait_s: float = 0, above: int = 0, *, recovering: bool = False) -> Iterator[Lease]:
    """Takes the lease, renews it in a thread and releases it at the end. Raises LeaseBusy when it is not free within `wait_s`.

    A recovery, by a holder with `recovering`, is waited for anyway. `above` is the largest number known elsewhere: a ledger that was
    restored from a backup may lack it.
    """
    holder = (RECOVERY if recovering else "") + this_process().describe()
    start = time.monotonic()
    while (lease := take(ledger, model, holder, above)) is None:
        waited = time.monotonic() - start
        if waited >= wait_s and not (waited < RECOVERY_WAIT_S and _is_in_recovery(ledger, model)):
            raise LeaseBusy.of(model)
        time.sleep(TRY_AGAIN_S)
    ended = threading.Event()
    renewing = threading.Thread(target=_keep_renewing, args=(lease, ended), daemon=True)
    renewing.start()
    try:
        yield lease
    finally:
        ended.set()
        renewing.join()
        try:
            lease.release()
        except LedgerError as error:
            # The lease runs out by itself. What the holder raises says more than this.
            log.warning("%s", error)


def _keep_renewing(lease: Lease, ended: threading.Event) -> None:
    while not ended.wait(HELD_S / 3):
        try:
            if not lease.renew():
                return
        except LedgerError:
            # The database may be away for a moment: the next renewal, or the check before the next step, finds out.
            continue


@dataclass(frozen=True)
class Holder:
    """Who has, or had, a model's lease: '' when it was released. It ran out `overdue_s` seconds ago; that is negative while it lasts."""

    token: int
    name: str
    overdue_s: float

    @property
    def is_local(self) -> bool:
        process = ProcessIdentity.parse(self.name.removeprefix(RECOVERY))
        return process is not None and process.is_local()

    @property
    def is_alive(self) -> bool:
        """Whether the holder goes on, as far as can be seen: a local one may be late with its renewal, on a busy machine or after
        the machine was asleep."""
        if self.is_local:
            return not _has_ended(self.name) and self.overdue_s < RENEWAL_LIMIT_S
        return self.overdue_s < 0


def holder(ledger: Ledger, model: str) -> Holder | None:
    """The last holder of the model's lease, by a read that no writer waits for; None before any. Raises LedgerError."""
    if not ledger.has(LEASES):
        return None
    now: sa.Label[float] = sa.literal_column(_clock(ledger.dialect == "sqlite")).label("now")
    for row in ledger.rows(sa.select(LEASES, now).where(LEASES.c.model == model)):
        return Holder(row.token, row.holder, float(row.now) - row.until)
    return None


def holders(ledger: Ledger) -> dict[str, Holder]:
    """The last holder of each model's lease; a name with a blank is no model's. Raises LedgerError."""
    with ledger.writing() as connection:
        LEASES.create(connection, checkfirst=True)
        rows, now = connection.execute(sa.select(LEASES)).all(), _now(connection)
    return {row.model: Holder(row.token, row.holder, now - row.until) for row in rows if " " not in row.model}


def _is_in_recovery(ledger: Ledger, model: str) -> bool:
    with ledger.writing() as connection:
        current = _row(connection, model)
    return current is not None and current.holder.startswith(RECOVERY)


def _has_ended(holder: str) -> bool:
    """Whether the holder is a process of this machine that has ended, so that its lease is free at once."""
    process = ProcessIdentity.parse(holder.removeprefix(RECOVERY))
    return process is not None and process.is_local() and not process.is_running()


def _row(connection: sa.Connection, model: str) -> sa.Row | None:
    return connection.execute(sa.select(LEASES).where(LEASES.c.model == model)).first()


def _now(connection: sa.Connection) -> float:
    """Seconds since 1970 by the database's clock."""
    clock = _clock(connection.dialect.name == "sqlite")
    return float(connection.execute(sa.text(f"SELECT {clock}")).scalar_one())


def _clock(sqlite: bool) -> str:
    return "(julianday('now') - 2440587.5) * 86400.0" if sqlite else "extract(epoch FROM clock_timestamp())"
