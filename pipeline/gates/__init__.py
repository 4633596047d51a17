"""Gates: each one check with a limit, one idea a file. All of them run; a failed one stops the run."""
