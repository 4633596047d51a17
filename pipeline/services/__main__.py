"""`python -m pipeline.services up | down`: what `make up` and `make down` call."""

from __future__ import annotations

import sys

from pipeline.errors import PerennialError
from pipeline.services import control
from pipeline.services.environment import USER, machine_secrets
from pipeline.settings.environment import Environment


def main(argv: list[str]) -> int:
    """Starts or ends the services of this machine. Returns the exit code: 1 for an error, 2 for wrong usage."""
    if argv not in (["up"], ["down"]):
        print("usage: python -m pipeline.services up | down", file=sys.stderr)
        return 2
    try:
        environment = Environment.read()
        if argv == ["down"]:
            control.down(environment.project, environment.home, print)
            return 0
        at = control.up(environment.project, environment.home, print)
    except PerennialError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"Airflow  {at.airflow}  (user {USER}, password {machine_secrets(environment.home)['password']})")
    print(f"MLflow   {at.mlflow}\nmodels   {at.router}/MODEL/invocations\nrouter   {at.router_api}/dashboard/")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
