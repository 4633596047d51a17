"""Counts the predictions that a slot answered, and nothing else: the slot's own counters, and Traefik's for the times.

A slot counts only predictions, without golden requests. Traefik also counts pages (GET), and bodies that a client cut off (499,
and 502 for a large one). So of Traefik's counts only answers to POST with 200 give the times. Its errors count as failures of a
slot only while that slot does not answer, or when it began anew since the last look.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass

import httpx

from pipeline.policy.confidence import Counted
from pipeline.rollout.probe import is_https
from pipeline.settings.addresses import Router

# 408 is a client whose body did not arrive: neither an answer nor a refusal of the version.
NO_EVIDENCE = "408"


@dataclass(frozen=True)
class SlotCounts:
    """A slot's own counts: answered predictions, 5xx among them or cut off, 4xx among them."""

    answers: int = 0
    failed: int = 0
    refused: int = 0


@dataclass(frozen=True)
class RouterCounts:
    """Traefik's counts of a slot's service: predictions with 200, those of them that were slow, and 5xx."""

    timed: int = 0
    slow: int = 0
    failed: int = 0


@dataclass(frozen=True)
class Served:
    """What slot and router counted since they were started; `slot` is None when it did not answer."""

    slot: SlotCounts | None = SlotCounts()
    router: RouterCounts = RouterCounts()


@dataclass(frozen=True)
class Answered:
    """Predictions of one version: all, failed, refused; those with a time, and the slow ones among these."""

    answers: int = 0
    failed: int = 0
    refused: int = 0
    timed: int = 0
    slow: int = 0

    @property
    def counts(self) -> tuple[Counted, Counted, Counted]:
        """(failed, slow, refused), each of all."""
        return (
            Counted(min(self.failed, self.answers), self.answers),
            Counted(min(self.slow, self.timed), self.timed),
            Counted(min(self.refused, self.answers), self.answers),
        )

    def __add__(self, more: Answered) -> Answered:
        return Answered(*(a + b for a, b in zip(astuple(self), astuple(more), strict=True)))


def total(served: Served) -> Answered:
    """All that slot and router counted since they were started."""
    slot = served.slot or SlotCounts()
    return Answered(slot.answers, slot.failed, slot.refused, served.router.timed, served.router.slow)


def since(now: Served, before: Served) -> Answered:
    """The predictions after `before`. A counter that fell belongs to a slot or a Traefik that was restarted, and began at zero."""
    timed, slow, router_failed = _increase(astuple(now.router), astuple(before.router))
    if now.slot is None:
        return Answered(router_failed, router_failed, 0, timed, slow)
    if before.slot is None:
        return Answered(0, 0, 0, timed, slow)
    began_anew = _fell(astuple(now.slot), astuple(before.slot))
    answers, failed, refused = _increase(astuple(now.slot), astuple(before.slot))
    lost = router_failed if began_anew else 0
    return Answered(answers + lost, failed + lost, refused, timed, slow)


def _fell(now: Iterable[int], before: Iterable[int]) -> bool:
    return any(n < b for n, b in zip(now, before, strict=True))


def _increase(now: tuple[int, ...], before: tuple[int, ...]) -> tuple[int, ...]:
    return now if _fell(now, before) else tuple(n - b for n, b in zip(now, before, strict=True))


def served(router: Router, slots: Mapping[str, str], slow_ms: float | None) -> dict[str, Served] | None:
    """The counts by service of the `slots` (service: address); None when Traefik does not answer.

    Slow is over the first bucket's bound at or above `slow_ms`; None counts none as slow.
    """
    # Traefik first: what it has counted by then, the slot has counted too.
    page = _page(f"{router.api_url}/metrics")
    if page is None:
        return None
    return {name: Served(slot_counts(address), _router_counts(page, name, slow_ms)) for name, address in slots.items()}


Samples = dict[str, list[tuple[str, dict[str, str], float]]]


def _page(url: str) -> Samples | None:
    """The samples of a page of metrics by family, each as (name, labels, value); None when it is not to be had."""
    from prometheus_client.parser import text_string_to_metric_families

    try:
        page = httpx.get(url, timeout=2, verify=is_https(url))
        page.raise_for_status()
        families = text_string_to_metric_families(page.text)
        return {f.name: [(s.name, s.labels, s.value) for s in f.samples] for f in families}
    except (httpx.HTTPError, ValueError):
        return None


def slot_counts(address: str) -> SlotCounts | None:
    """The slot's own counts since it was started; None when it does not answer."""
    page = _page(f"{address}/metrics")
    if page is None:
        return None
    codes: dict[str, int] = {}
    for _, labels, value in page.get("perennial_requests", ()):
        codes[labels["code"]] = codes.get(labels["code"], 0) + int(value)
    codes.pop(NO_EVIDENCE, None)
    cut_off = sum(int(v) for name, _, v in page.get("perennial_requests_cut_off", ()) if name.endswith("_total"))
    failed = sum(count for code, count in codes.items() if code >= "500")
    refused = sum(count for code, count in codes.items() if "400" <= code < "500")
    return SlotCounts(sum(codes.values()) + cut_off, failed + cut_off, refused)


def _router_counts(page: Samples, service: str, slow_ms: float | None) -> RouterCounts:
    def own(labels: dict[str, str]) -> bool:
        return labels["service"].removesuffix("@file") == service and labels["method"] == "POST"

    failed = sum(int(v) for _, ls, v in page.get("traefik_service_requests", ()) if own(ls) and ls["code"] >= "500")
    within: dict[float, int] = {}
    for name, labels, value in page.get("traefik_service_request_duration_seconds", ()):
        if name.endswith("_bucket") and own(labels) and labels["code"] == "200":
            bound = float(labels["le"])
            within[bound] = within.get(bound, 0) + int(value)
    if slow_ms is None or not within:
        return RouterCounts(failed=failed)
    timed = within[max(within)]
    return RouterCounts(timed, timed - within[min(b for b in within if b >= slow_ms / 1000)], failed)
