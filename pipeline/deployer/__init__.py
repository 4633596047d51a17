"""Changes to live traffic: by this process on one machine, on a server by a service that alone has the engine's socket."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.context import Context
    from pipeline.deployer.api import Traffic


def traffic(context: Context) -> Traffic:
    """Through the deployer on a server, else by this process."""
    environment = context.environment
    if environment.deployer:
        from pipeline.deployer import tokens
        from pipeline.deployer.client import RemoteTraffic

        return RemoteTraffic(environment.deployer, tokens.key(environment), context.asked_by)
    from pipeline.deployer.api import LocalTraffic

    return LocalTraffic(context)
