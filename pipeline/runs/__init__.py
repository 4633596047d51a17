"""What a run does, step by step, and what is asked about it later."""
