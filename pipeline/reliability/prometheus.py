"""Prometheus' rules for the objectives of params.yaml, as one file.

The series are those that our slots and Traefik export. Traefik counts each check of ours as a GET of the model's router, so the share of
GETs that it did not answer with 5xx is the availability from checks. The alerts' expressions are the burn rates of
pipeline.policy.service_levels; a window that is longer than Prometheus keeps its series counts what there is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from pipeline.policy.service_levels import CHECKS, SHORT_PART, Objective, objectives
from pipeline.serving.latency_bounds import SECONDS
from pipeline.settings.slo import Burn, Slo

WRONG, BUDGET = "perennial:slo_wrong:ratio", "perennial:slo_budget:ratio"
MAIN_ROUTER = "{model}@file"


def rules(slos: Mapping[str, Slo]) -> str:
    """The YAML text: for each model a group of recording rules and alerts."""
    groups = [_group(name, slo) for name, slo in slos.items() if objectives(slo)]
    head = "# Written by `perennial slo --prometheus`, from `slo` of params.yaml. Write it again when that changes.\n"
    return head + yaml.safe_dump({"groups": groups}, sort_keys=False, width=1000)


def _group(name: str, slo: Slo) -> dict[str, Any]:
    found: list[dict[str, Any]] = []
    for objective in objectives(slo):
        labels = {"model": name, "slo": objective.name}
        found.append({"record": BUDGET, "labels": {**labels}, "expr": f"vector({objective.budget:.6g})"})
        for window in sorted(
            {*(_minutes(b.hours) for b in slo.burn), *(_minutes(b.hours / SHORT_PART) for b in slo.burn)}
        ):
            record = f"{WRONG}_rate{duration(window)}"
            found.append(
                {"record": record, "labels": {**labels}, "expr": wrong_ratio(name, objective, duration(window))}
            )
        found += [_alert(name, objective, burn) for burn in slo.burn]
    return {"name": f"perennial-slo-{name}", "interval": "30s", "rules": found}


def _alert(name: str, objective: Objective, burn: Burn) -> dict[str, Any]:
    limit = min(burn.rate * objective.budget, 1.0)
    own = f'{{model="{name}", slo="{objective.name}"}}'
    windows = [duration(_minutes(hours)) for hours in (burn.hours, burn.hours / SHORT_PART)]
    expr = " and ".join(f"{WRONG}_rate{window}{own} >= {limit:.6g}" for window in windows)
    said = (
        f"{name}: slo.{objective.name} burns its error budget more than {burn.rate:g} times too fast over {burn.hours:g} h; "
        f"perennial slo {name}, and perennial rollback {name} if a rollout did it"
    )
    # The window tells two alerts of one severity apart: Prometheus takes the same name and labels for the same alert.
    labels = {"model": name, "slo": objective.name, "severity": burn.severity, "window": windows[0]}
    return {"alert": "ErrorBudgetBurns", "expr": expr, "labels": labels, "annotations": {"summary": said}}


def wrong_ratio(name: str, objective: Objective, window: str) -> str:
    """The expression for the share that is wrong over the window: 0 to 1."""
    if objective.name == CHECKS:
        checks = f'traefik_router_requests_total{{router="{MAIN_ROUTER.format(model=name)}", method="GET"'
        return _ratio(f'{checks}, code=~"5.."}}', f'{checks}, code!="429"}}', window)
    if objective.limit_s is None:
        answers = f'perennial_requests_total{{model="{name}"'
        cut_off = f'sum(rate(perennial_requests_cut_off_total{{model="{name}"}}[{window}]))'
        failed = f'((sum(rate({answers}, code=~"5.."}}[{window}])) or vector(0)) + {cut_off})'
        return f'{failed} / (sum(rate({answers}, code!="408"}}[{window}])) + {cut_off})'
    bound = next((bound for bound in SECONDS if bound >= objective.limit_s), None)
    seconds = f'perennial_request_seconds_bucket{{model="{name}"'
    every = f'sum(rate({seconds}, le="+Inf"}}[{window}]))'
    within = f"sum(rate({seconds}, {_le(bound)}}}[{window}]))"
    return f"1 - {within} / {every}"


def _le(bound: float | None) -> str:
    """The label of a bucket; newer versions of Prometheus write 1 as 1.0."""
    if bound is None:
        return 'le="+Inf"'
    return f'le=~"{bound:g}|{bound:g}.0"' if float(bound).is_integer() else f'le="{bound}"'


def _ratio(part: str, whole: str, window: str) -> str:
    return f"(sum(rate({part}[{window}])) or vector(0)) / sum(rate({whole}[{window}]))"


def percentile(name: str, p: int, window: str = "5m") -> str:
    """The expression for a percentile of the answers' seconds."""
    return f'histogram_quantile({p / 100:g}, sum by (le) (rate(perennial_request_seconds_bucket{{model="{name}"}}[{window}])))'


def throughput(name: str, window: str = "5m") -> str:
    """PromQL of a model's answered requests a second, over `window`."""
    return f'sum(rate(perennial_requests_total{{model="{name}"}}[{window}]))'


def _minutes(hours: float) -> int:
    return max(1, round(hours * 60))


def duration(minutes: int) -> str:
    """As Prometheus writes it: 5m, 1h, 3d."""
    for unit, size in (("d", 1440), ("h", 60)):
        if minutes % size == 0:
            return f"{minutes // size}{unit}"
    return f"{minutes}m"
