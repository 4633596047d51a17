"""Speed and size beside the tools that a user would run instead, as ratios from one run. `make bench`."""
