"""Gates: one check with a limit a file. Every gate reports; one that fails stops the run."""
