"""Functions and classes alone: no git, no DVC, no server, and no process that a test starts."""
