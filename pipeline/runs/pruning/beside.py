"""A run sends data to the DVC remote while a prune removes some: what the ledger says was sent is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pipeline.errors import DataError, LeaseBusy
from pipeline.ledger import lease
from pipeline.ledger.store import Ledger

# Of who removes data; no model's name has a blank.
LEASE = "data of the DVC remote"
# Another prune may ask a slow remote.
WAIT_S = 600.0


@contextmanager
def removing(ledger: Ledger) -> Iterator[None]:
    """Only one prune at a time: of two, both would count a file as theirs. Raises DataError when the other one goes on for long."""
    try:
        with lease.held(ledger, LEASE, WAIT_S):
            yield
    except LeaseBusy as error:
        raise DataError(LEASE, "another prune removes some", "run `perennial prune` again when it has ended") from error


@contextmanager
def sending(ledger: Ledger, send: Callable[[], object]) -> Iterator[None]:
    """The block sends data and notes it in the ledger. A prune that looked before may have removed what the block found in the remote: then
    `send` does it again, once that one has ended. Raises DataError when it does not."""
    before = lease.holder(ledger, LEASE)
    yield
    after = lease.holder(ledger, LEASE)
    if after is not None and (after.is_alive or before is None or before.is_alive or before.token != after.token):
        with removing(ledger):
            send()
