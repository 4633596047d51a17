"""Whether versions answer: through the router and at slots of their own, all asked side by side, with one deadline for all of them.

One after the other, 200 models whose slots hang would take minutes; and a router that refuses the connection refuses it to all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.rollout.routing.route import Route, RoutedSlot

if TYPE_CHECKING:
    import httpx

# Each gets so long for its answer, and all of them together.
TIMEOUT_S, DEADLINE_S = 2.0, 4.0
AT_ONCE = 32


@dataclass(frozen=True)
class Answer:
    """The status code of a model's address, 0 when nothing answers there; the version and the stamp of the route file that it names."""

    code: int = 0
    version: str | None = None
    stamp: str | None = None
    late: bool = False


NOTHING, LATE = Answer(), Answer(late=True)


@dataclass(frozen=True)
class Answers:
    """What answered, by address."""

    found: Mapping[str, Answer]

    def at(self, address: str) -> Answer:
        return self.found.get(address, NOTHING)

    def answers(self, routed: RoutedSlot) -> bool:
        """Whether the slot answers with its version."""
        answer = self.at(routed.address)
        return answer.code == 200 and answer.version == routed.version


def ask(router: str, routes: Mapping[str, Route], deadline_s: float = DEADLINE_S) -> Answers:
    """Asks the address of each model at the router, and each slot beside the live one by itself."""
    if not routes:
        return Answers({})
    # A tenth of a second to import; of a model that is not live nothing is asked.
    import httpx

    through = [f"{router}/{name}" for name in routes]
    beside = [slot.address for route in routes.values() for slot in (route.previous, route.candidate) if slot]
    # A client for all: making one takes longer than to ask. Plain HTTP needs no trusted certificates.
    client = httpx.Client(verify=any(address.startswith("https:") for address in [*through, *beside]))
    pool = ThreadPoolExecutor(min(AT_ONCE, len(through) + len(beside)))
    try:
        try:
            found = {through[0]: _asked(client, through[0])}
        except httpx.ConnectError:
            found, through = dict.fromkeys(through, NOTHING), through[:1]
        futures = {address: pool.submit(_answer, client, address) for address in dict.fromkeys([*through[1:], *beside])}
        wait(futures.values(), deadline_s)
        return Answers(found | {address: _done(future) for address, future in futures.items()})
    finally:
        # Whoever is still asked then is not waited for.
        pool.shutdown(wait=False, cancel_futures=True)
        client.close()


def _done(future: Future[Answer]) -> Answer:
    return future.result() if future.done() and not future.cancelled() else LATE


def _answer(client: httpx.Client, address: str) -> Answer:
    import httpx

    try:
        return _asked(client, address)
    # A client that was closed at the deadline says RuntimeError.
    except (httpx.HTTPError, RuntimeError):
        return NOTHING


def _asked(client: httpx.Client, address: str) -> Answer:
    """Raises httpx.ConnectError when nothing listens there."""
    import httpx

    from pipeline.rollout.routing.traefik import READY, STAMP

    try:
        answer = client.get(f"{address}{READY}", timeout=TIMEOUT_S)
    except httpx.ConnectError:
        raise
    except httpx.HTTPError:
        return NOTHING
    return Answer(answer.status_code, answer.headers.get("x-model-version"), answer.headers.get(STAMP))
