"""A canary in the world in memory whose disk fills up in its step; prints as JSON what is live then, and after there is room again.

python -m tests.support.full_disk FOLDER_ON_A_SMALL_DISK
"""

from __future__ import annotations

import contextlib
import json
import sys
from dataclasses import replace
from pathlib import Path

from pipeline.errors import PerennialError
from pipeline.ledger import lease
from pipeline.policy.canary import Judgement
from pipeline.rollout.context import RolloutContext
from pipeline.rollout.routing import route_file
from tests.support.accidents import agreed, deploy, reconcile
from tests.support.world import World, lived_in


def fill(file: Path) -> None:
    """Writes to the file until no byte more has room."""
    with file.open("wb", buffering=0) as out:
        for size in (65_536, 512, 1):
            with contextlib.suppress(OSError):
                while True:
                    out.write(bytes(size))


def main(disk: Path) -> None:
    lease.RENEWAL_LIMIT_S = 2.0
    with lived_in(disk / "home") as (world, context):
        print(json.dumps(story(disk, world, context)))


def story(disk: Path, world: World, context: RolloutContext) -> dict[str, str]:
    """What the rollout raised, the route when it had, and what is live after the disk has room again and `reconcile` was called."""

    def look() -> Judgement:
        fill(disk / "full")
        return Judgement("hold", "more is needed")

    deploy(context, "1")
    try:
        deploy(replace(context, judge=lambda *_: look), "2", "canary")
    except PerennialError as error:
        raised = str(error)
    current = route_file.read(context.home, "churn")
    full = f"live {current.live.version}, candidate {current.candidate}, answers {world.routed('churn')['x-model-version']}"
    (disk / "full").unlink()
    reconcile(context)
    return {"raised": raised, "full": full, "live": agreed(world, context)}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
