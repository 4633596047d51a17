"""Speed and size beside what one would run instead, as ratios from one run. `make bench`."""
