"""The order of Debian's versions, as the installed dpkg has it."""

from __future__ import annotations

import itertools
import shutil
import subprocess

import numpy as np
import pytest

from pipeline.gates.debian_versions import key
from tests.support.required import skip_or_fail

# Those of Debian's own documents and of packages whose versions are odd.
KNOWN = (
    *("0", "0~", "1.0", "1.0-0", "0:1.0", "1:0", "1.0~rc1", "1.0~~", "1.0~", "1.0+b1", "1.0-1", "1.0-1+b2", "1.0-1~bpo12+1"),
    *("2.36-9+deb12u10", "2.36-9+deb12u9", "1:2.66-4+deb12u3", "3.0.11-1~deb12u2", "3.0.11-1", "5.2.15-2+b7", "1.10", "1.9"),
    *("1.0a", "1.0.", "1.0.0", "1.0+dfsg-1", "1.0+", "20240203", "9.9.9p1-4", "4.19.0-rc1-2", "1.00", "01.0", "a", "1-0~", "1-~", "1-0.0"),
)  # fmt: skip
DRAWN = 60


def drawn():
    """Pairs that are nearly alike: where the rules decide."""
    rng = np.random.default_rng(7)
    for _ in range(DRAWN):
        one = "1" + "".join(rng.choice(list("019.+~-a"), 5))
        at = rng.integers(1, len(one))
        # A version has an end after its last hyphen.
        yield f"{one}1", f"{one[:at]}{rng.choice(list('019.+~-az'))}{one[at + rng.integers(0, 2) :]}1"


def test_the_order_is_that_of_dpkg():
    """`dpkg --compare-versions` decides each pair in the same way, equal ones too."""
    if shutil.which("dpkg") is None:
        skip_or_fail("dpkg", "is not installed")
    pairs = [*itertools.pairwise([*KNOWN, *KNOWN[::3], *KNOWN[::-2]]), *drawn()]
    lines = "\n".join(
        f"if dpkg --compare-versions '{a}' lt '{b}'; then echo '<'; "
        f"elif dpkg --compare-versions '{a}' eq '{b}'; then echo '='; else echo '>'; fi"
        for a, b in pairs
    )
    said = subprocess.run(["sh"], input=lines, capture_output=True, text=True, check=True).stdout.split()
    ours = ["<" if key(a) < key(b) else "=" if key(a) == key(b) else ">" for a, b in pairs]
    assert [(*pair, word) for pair, word in zip(pairs, ours, strict=True)] == [
        (*pair, word) for pair, word in zip(pairs, said, strict=True)
    ]


@pytest.mark.parametrize("text", ["", "1 2", "1_0", "x:1", "1-", "<end-of-life>"])
def test_what_is_no_version_is_an_error(text):
    """A version that cannot be compared is never taken for an older or a newer one."""
    with pytest.raises(ValueError, match="no version"):
        key(text)
