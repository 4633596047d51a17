"""Stores of their own, and the world in memory."""

from tests.support.accidents import lived, the_end_cannot_be_recorded  # noqa: F401
from tests.support.postgres import postgres, shared  # noqa: F401
from tests.support.s3 import s3  # noqa: F401
from tests.support.world import world_folder  # noqa: F401
