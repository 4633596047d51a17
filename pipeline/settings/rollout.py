"""The `rollout` section of a model in params.yaml: how a version goes live, its limits, and its slots' servers."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, Field, model_validator

from pipeline.settings.section import Section

Strategy = Literal["all-at-once", "canary", "linear", "shadow", "replay"]
STRATEGIES: tuple[str, ...] = get_args(Strategy)
# The figures of a candidate, by their keys in `rollout.limits`.
PREDICTION_FIGURES = ("prediction_rate", "churn", "drift")
FIGURES = ("error_rate", "refusal_rate", "p99_ms", *PREDICTION_FIGURES)
FOLLOWED_COLUMN = "body:"
HEADER_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9-]{0,63}$")


def followed_column(follow: str) -> str:
    """The column in a `follow` such as `body:customer`; '' when `follow` is a request header or empty."""
    return follow.removeprefix(FOLLOWED_COLUMN) if follow.startswith(FOLLOWED_COLUMN) else ""


class RolloutLimits(Section):
    """How much a candidate may differ from the champion; shares are from 0 to 1, None is off. See pipeline.policy.canary."""

    error_rate: Annotated[float, Field(gt=0, lt=1)] | None = 0.01
    refusal_rate: Annotated[float, Field(gt=0, lt=1)] | None = 0.05
    p99_ms: Annotated[float, Field(gt=0)] | None = 250
    prediction_rate: Annotated[float, Field(gt=0, le=1)] | None = 0.2
    churn: Annotated[float, Field(gt=0, le=1)] | None = 0.3
    drift: Annotated[float, Field(gt=0, le=1)] | None = 0.4
    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    min_requests: int = Field(default=100, ge=1)

    @property
    def on(self) -> tuple[str, ...]:
        """The figures that are judged."""
        return tuple(figure for figure in FIGURES if getattr(self, figure) is not None)

    @property
    def compare_predictions(self) -> bool:
        """Whether a figure that is on compares the predictions of both versions."""
        return bool({*PREDICTION_FIGURES} & {*self.on})

    @property
    def off(self) -> tuple[str, ...]:
        """The figures that nobody looks at: their limit is null."""
        return tuple(figure for figure in FIGURES if getattr(self, figure) is None)


def _sha256(digest: str) -> str:
    if not re.fullmatch("[0-9a-f]{64}", digest):
        raise ValueError("must be the SHA-256 of a key as 64 hexadecimal digits, not the key itself")
    return digest


class Serving(Section):
    """The resources and limits of one slot's server. `api_keys` are SHA-256 digests in hexadecimal."""

    cpus: float = Field(default=1.0, gt=0, le=64)
    memory_mb: int = Field(default=512, ge=128)
    max_body_mb: float = Field(default=16, gt=0, le=1024)
    max_rows: int = Field(default=10_000, ge=1)
    request_s: float = Field(default=30, gt=0)
    batching: Literal["auto", "on", "off"] = "auto"
    on_breach: Literal["refuse", "flag"] = "refuse"
    api_keys: tuple[Annotated[str, AfterValidator(_sha256)], ...] = ()
    rate_limit: int = Field(default=0, ge=0)
    personal: dict[str, Literal["hash", "drop"]] = Field(default_factory=dict)


EngineName = Literal["auto", "docker", "process"]


class Rollout(Section):
    """`models.NAME.rollout`: how traffic moves to a version, and for how long it can move back. `_percent` is of
    requests, `_s` are seconds."""

    engine: EngineName = "auto"
    strategy: Strategy = "all-at-once"
    canary_percent: int = Field(default=10, ge=1, le=99)
    linear_percent: int = Field(default=25, ge=1, le=99)
    shadow_percent: int = Field(default=100, ge=1, le=100)
    replay_rows: int = Field(default=10_000, ge=1)
    replay_days: float = Field(default=30, gt=0, le=3650)
    follow: str = ""
    ready_timeout_s: float = Field(default=30, gt=0)
    bake_s: float = Field(default=1.0, ge=0)
    hold_s: float = Field(default=900, gt=0)
    drain_s: float = Field(default=10, ge=0, le=600)
    keep_hours: float = Field(default=72, ge=0)
    watch_days: float = Field(default=14, ge=0)
    wait_s: float = Field(default=600, ge=0)
    limits: RolloutLimits = RolloutLimits()
    serving: Serving = Serving()

    @model_validator(mode="before")
    @classmethod
    def one_tolerance(cls, values: Any) -> Any:
        if isinstance(values, dict) and "golden_tolerance" in values:
            raise ValueError(
                "golden_tolerance is gone: gates.parity_tolerance is for golden requests too; delete the line"
            )
        return values

    def nothing_to_judge(self, strategy: str) -> str:
        """Why the strategy, which compares two versions before all traffic moves, has nothing to compare; '' when it has."""
        if strategy == "all-at-once" or self.limits.on:
            return ""
        keys = ", ".join(f"limits.{figure}" for figure in FIGURES)
        return f"strategy {strategy} would judge nothing, since all of {keys} are null (off)"

    def percents(self, strategy: str) -> list[int]:
        """The candidate's share of traffic in each step before it gets all, in percent."""
        if strategy == "canary":
            return [self.canary_percent]
        if strategy == "linear":
            return list(range(self.linear_percent, 100, self.linear_percent))
        return []
