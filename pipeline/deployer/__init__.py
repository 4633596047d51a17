"""Who touches live traffic: this process on one machine, or a service that alone has the engine's socket."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.context import Context
    from pipeline.deployer.api import Traffic


def traffic(context: Context) -> Traffic:
    """The deployer that $PERENNIAL_DEPLOYER_URL names, else this process itself."""
    if url := os.environ.get("PERENNIAL_DEPLOYER_URL"):
        from pipeline.deployer.client import Deployer

        return Deployer(url)
    from pipeline.deployer.api import Here

    return Here(context)
