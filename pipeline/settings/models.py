"""params.yaml, read once into typed, frozen sections. A function gets the section that it needs, not the whole file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar, cast

import yaml
from pydantic import Field, ValidationError, ValidationInfo, model_validator

from pipeline.errors import SettingsError
from pipeline.settings import agreement, read_before, yaml_file
from pipeline.settings.accounts import Baseline, Prices
from pipeline.settings.approval import Approvals
from pipeline.settings.assets import AssetName, own_events
from pipeline.settings.blocks import Blocks, BrokenBlocks, RightBlocks
from pipeline.settings.columns import ColumnName, Hook
from pipeline.settings.cron import Cron
from pipeline.settings.economics import Economics
from pipeline.settings.faults import all_faults, fault, read_sections, readable_part
from pipeline.settings.gates import Gates
from pipeline.settings.keep import Keep
from pipeline.settings.model_gates import group_columns
from pipeline.settings.notify import Notices, Notify
from pipeline.settings.policy import Budget, Policy
from pipeline.settings.rollout import Rollout
from pipeline.settings.scoring import Scoring
from pipeline.settings.section import MOST, Section
from pipeline.settings.slo import Slo
from pipeline.settings.source import Csv, Source
from pipeline.settings.teams import Team, Teams
from pipeline.settings.times import LONGEST_DAYS, UtcTime, utc
from pipeline.settings.training import Evaluation, Training

AnySection = TypeVar("AnySection", bound=Section)
MODEL_NAME = re.compile(r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$")


def time_of(value: datetime | str) -> datetime:
    """A time from a person or from Airflow, in UTC. Raises SettingsError for any other text."""
    try:
        return utc(value if isinstance(value, datetime) else datetime.fromisoformat(value))
    except (ValueError, OverflowError) as error:
        raise SettingsError(f"as_of {value!r}", "is not a time", "write it like 2013-04-01T00:00:00Z") from error


def refuse_unknown(conf: Mapping | None, known: Mapping) -> None:
    """Raises SettingsError for keys of a run's conf that its Dag does not have, because Airflow ignores them silently."""
    unknown = sorted(set(conf or {}) - set(known))
    if unknown:
        raise SettingsError(f"conf {', '.join(unknown)}", "is unknown to this Dag", f"use {', '.join(known)}")


class Workspaces(Section):
    """Which workspaces stay on disk: the newest `keep` of ended runs, and unended ones that were used in `abandoned_hours`; and
    how much untracked content a run takes along."""

    keep: int = Field(default=3, ge=0, le=MOST)
    abandoned_hours: float = Field(default=48, gt=0)
    max_untracked_mb: float = Field(default=50, ge=0)


class Schedule(Section):
    """`models.NAME.schedule`: when retrains run, in UTC, from `start` until `end`; None for no end."""

    cron: Cron
    start: UtcTime
    end: UtcTime | None = None
    # Where slots are short, the step of the model with the higher number begins first.
    priority: int = Field(default=1, ge=1, le=100)
    # Assets of other Dags: an event of one of them starts a run too.
    on_asset: tuple[AssetName, ...] = ()
    # From a step of the run to the Celery queue for its task.
    queues: dict[str, str] = {}


class DriftLimits(Section):
    """The budget of false alarms that a drift verdict's limits come from, limits that are stated in their place, and the rows that a
    verdict takes; a part of `monitor`."""

    false_alarms_a_quarter: float = Field(default=1, gt=0, le=MOST)
    min_rows: int = Field(default=200, ge=1, le=MOST)
    sample_rows: int = Field(default=10_000, ge=1, le=MOST)
    psi_limit: float | None = Field(default=None, gt=0)
    missing_limit: float | None = Field(default=None, gt=0, le=1)
    unknown_limit: float = Field(default=0.1, gt=0, le=1)
    features_limit: int = Field(default=1, ge=1, le=MOST)
    # A team's own measures, beside ours.
    measures: tuple[Hook, ...] = ()


# With fewer labels a metric says little, whatever is stated for drift.
LABELLED_ROWS = 1000


class Monitor(DriftLimits):
    """`models.NAME.monitor`: when traffic is looked at, and by how much it may differ; a look has the `window_days`
    before it."""

    cron: Cron
    window_days: float = Field(gt=0, le=LONGEST_DAYS)
    label_tolerance_s: float = Field(default=60, ge=0, le=LONGEST_DAYS * 86_400)
    quality_drop: float = Field(default=0.05, ge=0)
    min_labelled_rows: int | None = Field(default=None, ge=1, le=MOST)
    # Features by whose values requests form slices, each judged by itself.
    slices: tuple[ColumnName, ...] = Field(default=(), max_length=5)
    # On a server, from so many landed rows on, workers count them beside the training.
    mapped_rows: int = Field(default=5_000_000, ge=1, le=MOST)
    # Which Dag an alert from elsewhere starts.
    on_alert: Literal["monitor", "retrain"] = "monitor"
    # Assets of other Dags: an event of one of them starts a look too.
    on_asset: tuple[AssetName, ...] = ()

    @property
    def labelled_rows(self) -> int:
        """How many labelled rows live quality takes: what is stated for it, or for drift, or 1,000."""
        if self.min_labelled_rows is not None:
            return self.min_labelled_rows
        return self.min_rows if "min_rows" in self.model_fields_set else LABELLED_ROWS


class Model(Approvals):
    """`models.NAME`. What stands here agrees with itself: pipeline.settings.agreement has refused all else, with the
    keys that contradict each other."""

    description: str = ""
    # One of `teams`: whose slots the model's steps take.
    team: str | None = None
    as_of: UtcTime
    schedule: Schedule
    source: Source
    training: Training
    evaluation: Evaluation
    gates: Gates
    monitor: Monitor
    rollout: Rollout = Rollout()
    economics: Economics = Economics()
    policy: Policy = Policy()
    scoring: Scoring | None = None
    slo: Slo | None = None

    @property
    def columns(self) -> frozenset[str]:
        """The features and the key: the columns that a request may have."""
        return frozenset([*self.training.features, *([self.source.key] if self.source.key else [])])

    @property
    def beside(self) -> list[str]:
        """The columns of a snapshot that are only for the gates: by them slices and groups are formed, and the model takes none of them."""
        known = {*self.training.features, *self.training.weights}
        return [name for name in group_columns(self.gates) if name not in known]

    @property
    def calendar(self) -> list[str]:
        """The features that drift leaves out, because they follow the calendar."""
        rules = self.gates.contract.columns
        return [name for name in self.training.features if name in rules and rules[name].calendar]

    @property
    def held_out_from(self) -> datetime:
        """The rows whose event time is not before this are held out: training never sees them."""
        return self.as_of - timedelta(days=self.evaluation.holdout_days)

    @property
    def loss(self) -> str:
        """What a retrain is to lower: the name of a metric that is a mean over rows, or `money`."""
        return self.economics.loss_of(self.training.task, self.evaluation.metric)

    @model_validator(mode="after")
    def sections_agree(self, info: ValidationInfo) -> Model:
        """`info.context` has the stages of the project's dvc.yaml."""
        if faults := agreement.faults(self, info.context or agreement.STAGES):
            raise agreement.validation_error(faults)
        return self


class ParamsFile(Section):
    """All keys of params.yaml. Each section, each team, and each model's block, is read by itself."""

    prices: Prices
    baseline: Baseline
    workspaces: Workspaces = Workspaces()
    keep: Keep = Keep()
    budget: Budget = Budget()
    teams: dict[str, Team] = {}
    notify: Notify = Notify()
    models: dict[str, Model]


@dataclass(frozen=True)
class Params:
    """params.yaml as far as it is right: what is wrong in one place keeps nobody from the rest.

    `models` are the right blocks, `broken` the faults of the others; a block is checked when somebody asks for it. `faults` are those
    outside of the blocks, by key; '' is the whole file's. Who asks for something broken gets its fault. A fault of `teams` is that of
    the models that name the team.
    """

    models: Mapping[str, Model]
    broken: Mapping[str, SettingsError]
    faults: Mapping[str, SettingsError]
    sections: Mapping[str, Section]
    teams: Teams = Teams()
    notices: Notices = Notices()
    written: Mapping[Any, Any] = field(default_factory=dict)

    @property
    def names(self) -> set[str]:
        """Of all blocks, the right and the broken ones, none of which is read for it."""
        return {str(name) for name in self.written}

    @property
    def prices(self) -> Prices:
        return cast(Prices, self._section("prices"))

    @property
    def baseline(self) -> Baseline:
        return cast(Baseline, self._section("baseline"))

    @property
    def workspaces(self) -> Workspaces:
        return cast(Workspaces, self._section("workspaces"))

    @property
    def keep(self) -> Keep:
        return cast(Keep, self._section("keep"))

    @property
    def budget(self) -> Budget:
        return cast(Budget, self._section("budget"))

    @property
    def no_models(self) -> SettingsError | None:
        """Why no block can be read at all; None when blocks can be read."""
        return self.faults.get("") or self.faults.get("models")

    def _section(self, key: str) -> Section:
        self._refuse("", key)
        return self.sections[key]

    def model(self, name: str) -> Model:
        """The model called `name`. Raises SettingsError: its block's fault, or the names in params.yaml."""
        if name in self.broken:
            raise SettingsError(*self.broken[name].args)
        self._refuse("", "models")
        if name not in self.models:
            names = ", ".join(self.models) or "none"
            raise SettingsError(f"model {name}", "is not in params.yaml", f"use one of its models: {names}")
        return self.models[name]

    def csv_of(self, name: str) -> Csv:
        """How the model's CSV files are written, whatever else is wrong in its block: another form may read other values. The usual one
        without a block. Raises SettingsError where the keys of `source.csv` are wrong."""
        if name in self.models:
            return self.models[name].source.csv
        source = block.get("source") if isinstance(block := self.written.get(name), dict) else None
        try:
            return Csv.model_validate((source.get("csv") if isinstance(source, dict) else None) or {})
        except ValidationError:
            raise SettingsError(*self.broken[name].args) from None

    def section_of(self, name: str, kind: type[AnySection], *keys: str) -> AnySection:
        """The section under those keys of the model's block, read by itself: 200 whole blocks take a fifth of a second. The usual one where the
        block does not state it, or wrongly."""
        found: Any = self.written.get(name)
        for key in keys:
            found = found.get(key) if isinstance(found, dict) else None
        try:
            return kind.model_validate({} if found is None else found)
        except ValidationError:
            return kind()

    def model_of_a_run(self, name: str) -> Model:
        """The same for a new run, which also goes by what all models share: raises SettingsError for a fault there too."""
        self._refuse(*self.faults)
        return self.model(name)

    def _refuse(self, *keys: str) -> None:
        for key in keys:
            if key in self.faults:
                raise SettingsError(*self.faults[key].args)


def load(root: Path, memory: Path | None = None) -> Params:
    """Reads `root`/params.yaml. Raises nothing: its faults are in the result. `memory` is a folder for what was read of the file before."""
    try:
        raw = dict(read_before.mapping(root / "params.yaml", memory))
    except SettingsError as error:
        return Params({}, {}, {"": error}, {})
    blocks, teams = raw.pop("models", None), Teams.read(raw.pop("teams", {}))
    notices = Notices.read(raw.pop("notify", {}))
    read, faults = read_sections(ParamsFile, raw, leave_out=("models", "teams", "notify"))
    if not isinstance(blocks, dict):
        faults["models"] = fault(
            "missing key models" if blocks is None else "models: must be the models by their names"
        )
        blocks = {}
    stages = _stages(root) if any(map(_has_queues, blocks.values())) else agreement.STAGES
    each = Blocks(blocks, lambda name: _block(name, blocks[name], stages, teams))
    return Params(RightBlocks(each), BrokenBlocks(each), faults, read, teams, notices, blocks)


def _block(name: Any, block: Any, stages: tuple[str, ...], teams: Teams) -> Model | SettingsError:
    """The block of a model, or its faults."""
    try:
        model = Model.model_validate(block, context=stages) if _is_model_name(name) else _refuse_name(name)
    except ValidationError as error:
        between = agreement.faults(readable_part(Model, block, error), stages, partial=True)
        team = block.get("team") if isinstance(block, dict) else None
        return fault(*all_faults(error, f"models.{name}", [*between, *teams.faults_of(team)]))
    except SettingsError as error:
        return error
    if found := [*teams.faults_of(model.team), *own_events(name, model)]:
        return fault(*(f"models.{name}.{key}: {what}" for key, what in found))
    return model


def _has_queues(block: Any) -> bool:
    schedule = block.get("schedule") if isinstance(block, dict) else None
    return isinstance(schedule, dict) and bool(schedule.get("queues"))


def _stages(root: Path) -> tuple[str, ...]:
    """The names in `root`/dvc.yaml; the usual ones when it cannot be read, which is another error."""
    try:
        return tuple(yaml_file.parse((root / "dvc.yaml").read_text(encoding="utf-8"))["stages"])
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError):
        return agreement.STAGES


def _is_model_name(name: object) -> bool:
    return isinstance(name, str) and MODEL_NAME.fullmatch(name) is not None


def _refuse_name(name: object) -> NoReturn:
    rule = "use a-z, 0-9 and '-', at most 40 characters" if isinstance(name, str) else "write it in quotes"
    raise fault(f"model name {name!r}: {rule}")
