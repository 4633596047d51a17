"""What the tests of the Dags ask of more than one of them."""

from __future__ import annotations

from typing import Any


def count_what_has_landed_beside_the_training(here: dict[str, Any], server: dict[str, Any]) -> None:
    """Workers do on a server: in a mapped task too, for which the evaluation waits however it ends; on one machine no such task is there."""
    more = {name: after for name, after in server["tasks"].items() if here["tasks"].get(name) != after}
    assert more == {
        "list_landed": ["open_workspace", "validate"],
        "profile_landed": ["list_landed", "open_workspace"],
        "landed_profiled": ["profile_landed"],
        "evaluate": ["landed_profiled", *here["tasks"]["evaluate"]],
    }
    assert (here["mapped"], server["mapped"]) == ({}, {"profile_landed": "{{ group_title }}"})
    assert server["rules"] == {**here["rules"], "landed_profiled": "all_done"}
    assert server["pools"] == here["pools"] | {"profile_landed": "team__growth"}
    assert server["teardowns"] == here["teardowns"] == ["settle"]
