"""How much of the long walks is walked: a part of them each time; all of them with `PERENNIAL_REQUIRE=exhaustive`."""

import os

EXHAUSTIVE = "exhaustive" in os.environ.get("PERENNIAL_REQUIRE", "").split(",")
