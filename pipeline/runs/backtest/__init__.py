"""The past of a model, replayed: a version as of the start of each window, its loss on each later one, and what each policy would have cost."""
