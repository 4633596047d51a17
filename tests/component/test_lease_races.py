"""Two processes that want one lease at once: each time one of them gets it."""

from tests.support.ledger import raced


def test_of_two_hundred_races_of_two_processes_each_has_one_winner(world_folder):
    """Of two processes that want a lease at once, one gets it, in each of 200 races, and no two rollouts overlap."""
    raced(world_folder)
