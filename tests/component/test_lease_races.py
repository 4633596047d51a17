"""Two processes that want one lease at once: each time one of them gets it."""

from tests.support.ledger import raced


def test_of_two_hundred_races_of_two_processes_each_has_one_winner(world_folder):
    """The other is refused; what the winner writes stands, and no two rollouts ever overlap."""
    raced(world_folder)
