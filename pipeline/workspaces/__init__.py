"""git and DVC: one worktree a run, one shared cache, and how a stage gets its process."""
