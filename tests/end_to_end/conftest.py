"""The services, for as long as there are tests of this folder to run."""

from tests.support.stack import _stack, stack  # noqa: F401
