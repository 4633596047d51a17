"""How much of the long walks is walked: a part of them each time, all with `PERENNIAL_REQUIRE=exhaustive`, which takes an hour."""

import os

EXHAUSTIVE = "exhaustive" in os.environ.get("PERENNIAL_REQUIRE", "").split(",")
