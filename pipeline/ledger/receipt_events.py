"""The events of the decisions when a model changes: what is known of its versions' losses, and what was decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

from pipeline.ledger.events import NULL, Event


class WindowScored(Event, kind="window_scored"):
    """The versions that were trained before the window [start, end) were scored on its labelled requests, by the labels known at `as_of`.

    `losses` are mean losses by package digest, `served` the digest of the package that answered most of them; `left_out` says why a package has
    none. `requests` were logged in the window, `labelled` of them count. Times are ISO 8601.
    """

    start: str
    end: str
    as_of: str
    loss: str
    requests: int
    labelled: int
    losses: Mapping[str, float] = field(default_factory=dict)
    served: str = ""
    left_out: Mapping[str, str] = field(default_factory=dict)


class RetrainDecided(Event, kind="retrain_decided"):
    """The receipt of a look as of `as_of`: what `rule` said of the champion, whose package has `digest`, and what was done of it.

    `says` is what the rule says, `decision` what is done: they differ where one of `guards` holds it back. `version` and `to_digest` are of what
    to go back to. `score` reaches `limit` where the rule acts, in units of loss times windows. Acting saves `saving` over the `ahead` windows ahead,
    with the interval `low` to `high`, and costs `cost`, all in `currency`; None where the rule does not say. `others` has what each other
    policy would have done, `basis` what the rule goes by, `losses` the mean loss of each version by window, {"start", "rows", "by_version"}. `economics` is a
    pipeline.policy.economics.Worth as a dict.
    """

    as_of: str
    champion: str
    digest: str
    rule: str
    says: str
    decision: str
    why: str
    flips: str = ""
    version: str = ""
    to_digest: str = ""
    score: float | None = field(default=None, metadata=NULL)
    limit: float | None = field(default=None, metadata=NULL)
    saving: float | None = field(default=None, metadata=NULL)
    low: float | None = field(default=None, metadata=NULL)
    high: float | None = field(default=None, metadata=NULL)
    cost: float | None = field(default=None, metadata=NULL)
    currency: str = ""
    guards: Sequence[str] = ()
    others: Mapping[str, str] = field(default_factory=dict)
    ages: Mapping[str, int] = field(default_factory=dict)
    losses: Sequence[Mapping[str, Any]] = ()
    economics: Mapping[str, Any] = field(default_factory=dict)
    ahead: int | None = field(default=None, metadata=NULL)
    basis: str = ""

    @property
    def money(self) -> str:
        """What acting is expected to save, and over which time; '' where nobody says."""
        if self.saving is None or self.low is None or self.high is None:
            return ""
        ahead = "the windows ahead" if self.ahead is None else f"{self.ahead} window{'s' if self.ahead > 1 else ''}"
        return f"expected to save {self.saving:,.2f} {self.currency} ({self.low:,.2f} to {self.high:,.2f}) over {ahead}"

    def reason(self, why: str) -> str:
        """The receipt in a line, for the run that it asks for: `why`, the money, what would flip it, and what other rules say."""
        cost = "" if self.cost is None else f"a retrain costs {self.cost:,.2f} {self.currency}"
        # In the order in which the ledger gives them back.
        others = ", ".join(f"{rule} {what}" for rule, what in sorted(self.others.items()))
        told = (
            why,
            self.money,
            cost,
            self.flips and f"it would be otherwise with {self.flips}",
            others and f"other rules: {others}",
        )
        return "; ".join(filter(None, told))

    def sentence(self) -> str:
        held = f" ({self.rule} says {self.says}; {'; '.join(self.guards)})" if self.guards else ""
        goes_by = f"; {self.basis}" if self.basis else ""
        return f"{self.decision}, as of {self.as_of[:10]}, by the rule {self.rule}: {self.why}{goes_by}{held}"


class DecisionSettled(Event, kind="decision_settled"):
    """What the decision as of `as_of` came to, by the labels of `windows` windows since: `saved` is what version `version` lost less than
    version `instead` on the same rows, from `low` to `high`, against `expected`, which was over `ahead` windows, and a `cost`, all in `currency`."""

    as_of: str
    decision: str
    version: str
    instead: str
    windows: int
    saved: float
    low: float
    high: float
    cost: float
    currency: str
    expected: float | None = field(default=None, metadata=NULL)
    ahead: int | None = field(default=None, metadata=NULL)

    @property
    def expected_by_now(self) -> float | None:
        """The share of `expected` that falls on `windows`; None where either is not known, as in events of before."""
        return self.expected * self.windows / self.ahead if self.expected is not None and self.ahead else None

    @property
    def paid(self) -> str:
        return (
            "it paid"
            if self.low > self.cost
            else "it did not pay"
            if self.high < self.cost
            else "whether it paid is open"
        )

    def sentence(self) -> str:
        hoped = f", {self.expected:,.2f} was expected" if self.expected is not None else ""
        if self.expected_by_now is not None:
            hoped = f", {self.expected_by_now:,.2f} was expected by then"
        return (
            f"the decision of {self.as_of[:10]} to {self.decision} is settled: over {self.windows} windows version {self.version} saved "
            f"{self.saved:,.2f} {self.currency} ({self.low:,.2f} to {self.high:,.2f}){hoped}, for {self.cost:,.2f}: {self.paid} so far"
        )
