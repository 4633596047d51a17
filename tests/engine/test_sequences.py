"""The sequences that broke a rule once, on real slots behind a real Traefik."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.errors import PerennialError
from pipeline.rollout.routing import route_file
from tests.support.endpoint import agreed, kill_slot, one_engine
from tests.support.world import VERSIONS, killed_at, race, tamper

SEQUENCES = Path(__file__).parents[1] / "sequences"


SEQUENCE_FILES = sorted(SEQUENCES.glob("*.json"))


@one_engine
@pytest.mark.parametrize("sequence", SEQUENCE_FILES, ids=[path.stem for path in SEQUENCE_FILES])
def test_a_sequence_is_replayed_on_real_slots(endpoint, sequence):
    """A recorded sequence of accidents on real slots ends with route, slots, registry and ledger in agreement."""
    endpoint.set(bake_s=0.2)
    for name, *asked in json.loads(sequence.read_text()):
        try:
            if name == "deploy" and asked[0] in VERSIONS:
                endpoint.deploy(asked[0], "all-at-once")
            elif name == "crash":
                with killed_at(asked[2]):
                    endpoint.deploy(asked[0], "all-at-once")
            elif name == "rollback":
                endpoint.rollback()
            elif name == "tamper_package":
                continue  # the real packages are the session's
            elif name == "slot_dies" and asked[0] in dict(endpoint.slots()):
                kill_slot(endpoint, asked[0])
            elif name == "tamper":
                tamper(endpoint.home, asked[0])
            elif name == "race":
                race(endpoint.deploy, *asked)
            elif name == "reconcile":
                endpoint.reconcile()
                if route_file.read(endpoint.home, "churn") is not None:
                    agreed(endpoint)
        except PerennialError:
            continue
    endpoint.reconcile()
    if route_file.read(endpoint.home, "churn") is not None:
        agreed(endpoint)
