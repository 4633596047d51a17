"""Figures that others published, as SOURCES.md has them: claims of their authors, shown beside ours and never counted as ours."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Platform:
    """Of one platform: seconds to deploy, minutes of a retrain, of drift latency (None: not published) and of recovery, and the money of
    a lifecycle in USD."""

    name: str
    deploy_s: float
    retrain_min: float
    drift_latency_min: float | None
    recovery_min: float
    lifecycle_usd: float


# Of all the money here and in the study's ranges; nobody converts it.
CURRENCY = "USD"
PLATFORMS_SOURCE = "enterprise ML Ops review (2025), 001_61ba7f0ca7631767.txt"
PLATFORMS = (
    Platform("MLflow (local)", 180, 35, None, 25, 95),
    Platform("SageMaker", 45, 22, 8, 10, 120),
    Platform("Kubeflow", 120, 30, 15, 20, 105),
    Platform("Azure ML", 60, 25, 10, 12, 110),
)

DAY_S, HOUR_S = 86_400, 3_600
# (low, high) by hand and automated, in the unit of the figure's name, of the study that `baseline.source` names by default.
DEPLOYMENTS: dict[str, tuple[tuple[float, float], tuple[float, float]]] = {
    "engineer_minutes": ((480, 960), (30, 120)),
    "lead_time_s": ((14 * DAY_S, 42 * DAY_S), (1 * DAY_S, 3 * DAY_S)),
    "failed_share": ((0.15, 0.30), (0.02, 0.05)),
    "rollback_s": ((2 * HOUR_S, 8 * HOUR_S), (300, 900)),
    "staleness_days": ((28, 84), (7, 14)),
}
