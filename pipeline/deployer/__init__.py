"""Who touches live traffic: this process on one machine, or a service that alone has the engine's socket."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.deployer import tokens

if TYPE_CHECKING:
    from pipeline.context import Context
    from pipeline.deployer.api import Traffic


def traffic(context: Context) -> Traffic:
    """The deployer on a server, else this process itself."""
    environment = context.environment
    if environment.deployer:
        from pipeline.deployer.client import Deployer

        return Deployer(environment.deployer, tokens.key(environment))
    from pipeline.deployer.api import Here

    return Here(context)
