"""Profiles: small counts of a partition's rows, in buckets that its reference fixed. They are merged by addition."""
