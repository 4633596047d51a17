"""A slot's page for Prometheus, read for what service levels need: answers by code, those cut off, and the latency histogram."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.policy.service_levels import Counted

SAMPLE = re.compile(
    r"^(perennial_(?:requests_total|requests_cut_off_total|request_seconds_bucket))\{(.*)\} (\S+)$", re.MULTILINE
)
LABEL = re.compile(r'(code|le)="([^"]*)"')
# The client's body did not arrive: no answer of the version.
NO_ANSWER = "408"


@dataclass(frozen=True)
class SlotTotals:
    """A slot's counters since it was started; `latencies` by the upper bound of the bucket in seconds, not cumulated."""

    requests: int = 0
    failed: int = 0
    latencies: Mapping[float, int] = field(default_factory=dict)

    @classmethod
    def of_page(cls, page: str) -> SlotTotals:
        """Raises ValueError for a page that is not a slot's."""
        codes: dict[str, int] = {}
        cut_off, cumulated = 0, {}
        for name, labels, text in SAMPLE.findall(page):
            label, value = dict(LABEL.findall(labels)), int(float(text))
            if name == "perennial_requests_total":
                codes[label["code"]] = codes.get(label["code"], 0) + value
            elif name == "perennial_requests_cut_off_total":
                cut_off += value
            else:
                cumulated[float(label["le"])] = value
        if not cumulated:
            raise ValueError("no latency histogram")
        latencies, before = {}, 0
        for bound in sorted(cumulated):
            latencies[bound], before = cumulated[bound] - before, cumulated[bound]
        answered = sum(count for code, count in codes.items() if code != NO_ANSWER)
        failed = sum(count for code, count in codes.items() if code >= "500")
        return cls(answered + cut_off, failed + cut_off, {bound: n for bound, n in latencies.items() if n})

    @classmethod
    def read(cls, text: str) -> SlotTotals:
        """What `as_text` wrote."""
        values = json.loads(text)
        return cls(values["requests"], values["failed"], {float(b): n for b, n in values["latencies"].items()})

    def as_text(self) -> str:
        latencies = {repr(float(bound)): count for bound, count in self.latencies.items()}
        return json.dumps({"requests": self.requests, "failed": self.failed, "latencies": latencies})

    def since(self, before: SlotTotals) -> Counted:
        """What was counted after `before`. A counter that fell belongs to a slot that was started anew, and began at zero."""
        fell = any(self.latencies.get(bound, 0) < count for bound, count in before.latencies.items())
        if fell or self.requests < before.requests or self.failed < before.failed:
            before = SlotTotals()
        more = {bound: count - before.latencies.get(bound, 0) for bound, count in self.latencies.items()}
        latencies = {bound: count for bound, count in more.items() if count}
        return Counted(
            requests=self.requests - before.requests, failed=self.failed - before.failed, latencies=latencies
        )
