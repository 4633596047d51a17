"""`perennial init`: a block of params.yaml from a table, with each assumption in one line."""
