"""What can go wrong, told in one line: the subject, what was observed, and what to check next."""

from __future__ import annotations

from typing import Self


class PerennialError(Exception):
    """Refused or failed. `str()` is the one line a person reads."""

    def __init__(self, subject: str, observation: str, next_check: str) -> None:
        super().__init__(subject, observation, next_check)
        self.subject = subject
        self.observation = observation
        self.next_check = next_check

    def __str__(self) -> str:
        return " ".join(f"{self.subject}: {self.observation}; {self.next_check}".split())


class SettingsError(PerennialError):
    """params.yaml, dvc.yaml or the environment says something we cannot act on."""


class DataError(PerennialError):
    """The source, a snapshot or its contract."""


class RemoteError(DataError):
    """The DVC remote did not do as asked; it may in a minute."""


class StageError(PerennialError):
    """A stage of dvc.yaml ended badly."""


class GateError(PerennialError):
    """At least one gate said no. Nothing was registered."""


class RegistryError(PerennialError):
    """MLflow cannot be reached, or does not hold what was asked for."""


class RegistryAwayError(RegistryError):
    """MLflow cannot be reached now; it may be in a minute."""


class RolloutError(PerennialError):
    """A version could not go live. What was live still is."""


class LeaseBusy(RolloutError):
    """Another rollout of the model is going on."""

    @classmethod
    def of(cls, model: str) -> Self:
        return cls(f"model {model}", "another rollout of it is going on", "wait for it, then try again")


class LedgerError(PerennialError):
    """The ledger cannot be written, or its chain is broken."""


class ServiceError(PerennialError):
    """A service of this machine (Airflow, MLflow, Traefik) did not do as asked."""
