"""The errors. Each message is one line: the subject, what was observed, and the next step. Faults of params.yaml that are found
together are such a line each."""

from __future__ import annotations

from typing import Self

# Between several observations of one error, which are a line each. No text of another program has it.
NEXT_LINE = "\x1e"


class PerennialError(Exception):
    """Something was refused or failed. `str()` is the line that a person reads."""

    def __init__(self, subject: str, observation: str, next_check: str) -> None:
        super().__init__(subject, observation, next_check)
        self.subject = subject
        self.observation = observation
        self.next_check = next_check

    def __str__(self) -> str:
        observations = self.observation.split(NEXT_LINE)
        return "\n".join(" ".join(f"{self.subject}: {seen}; {self.next_check}".split()) for seen in observations)


class SettingsError(PerennialError):
    """A setting in params.yaml, dvc.yaml or the environment is missing or wrong."""


class DataError(PerennialError):
    """The source, a snapshot or another data file cannot be used."""


class RemoteError(DataError):
    """The DVC remote failed. A later attempt may succeed."""


class StageError(PerennialError):
    """A stage of dvc.yaml or its workspace failed."""


class GateError(PerennialError):
    """At least one gate failed. Nothing was registered."""


class RegistryError(PerennialError):
    """MLflow cannot be reached, or refuses or lacks a version."""


class RegistryAwayError(RegistryError):
    """MLflow does not answer. A later attempt may succeed."""


class RolloutError(PerennialError):
    """A version could not go live. The version that was live still is."""


class LeaseBusy(RolloutError):
    """Another rollout of the model is going on."""

    @classmethod
    def of(cls, model: str) -> Self:
        return cls(f"model {model}", "another rollout of it is going on", "wait for it, then try again")


class LedgerError(PerennialError):
    """The ledger cannot be written, or its chain is broken."""


class ServiceError(PerennialError):
    """A service (Airflow, MLflow, Traefik) did not start, stop or answer."""
