"""Which model's name a command takes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli.commands import known_model
from pipeline.errors import SettingsError
from pipeline.ledger.events import StepStarted
from pipeline.ledger.store import Ledger


@dataclass
class Params:
    """params.yaml with the model `here` alone."""

    broken: dict[str, Any] = field(default_factory=dict)

    def model(self, name: str) -> None:
        if name != "here":
            raise SettingsError(f"model {name}", "is not in params.yaml", "use one of its models: here")


@dataclass
class Here:
    ledger: Ledger
    params: Params = field(default_factory=Params)


@pytest.fixture
def context(tmp_path: Path) -> Any:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    ledger.append(StepStarted(), "renamed", "r", "train")
    return Here(ledger)


def test_a_model_of_the_past_is_known_where_the_past_is_asked_for(context: Any) -> None:
    """Costs and timeline take a model that was removed before it was live; what moves traffic does not."""
    assert known_model(context, "renamed", past=True) == "renamed"
    with pytest.raises(SettingsError, match="model renamed: is not in params.yaml"):
        known_model(context, "renamed")


def test_a_name_that_nobody_knows_is_refused(context: Any) -> None:
    """With the past or without; no name means all models."""
    for past in (False, True):
        with pytest.raises(SettingsError, match="model typo: is not in params.yaml"):
            known_model(context, "typo", past=past)
        assert (known_model(context, None, past), known_model(context, "here", past)) == ("", "here")
