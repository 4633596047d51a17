"""The machine's meter as CodeCarbon reads it, on files like those of Linux's powercap: machines of CI have none."""

from __future__ import annotations

import pytest

from pipeline.ledger import energy

RANGE = 12_000_000  # microjoules, after which a counter begins anew


def test_the_meter_adds_up_packages_over_counters_that_begin_anew(tmp_path):
    """A package that shows another one's counter counts once, a part of one not at all, and a machine without a meter has none."""
    counters = _powercap(tmp_path, {"0": "package-0", "0:0": "core", "1": "package-1", "2": "package-2"})
    counters({"0": 4_000_000, "0:0": 1_000_000, "1": 4_000_000, "2": 9_000_000})
    start = energy.read(tmp_path)
    counters({"0": 6_000_000, "0:0": 2_000_000, "1": 6_000_000, "2": 10_000_000})
    energy.read(tmp_path)
    counters({"0": 7_000_000, "0:0": 2_500_000, "1": 7_000_000, "2": 500_000})
    end = energy.read(tmp_path)
    assert end.joules - start.joules == pytest.approx(2 + 1 + 1 + (RANGE / 1e6 - 9.5))
    assert energy.read(tmp_path / "none") is None


def _powercap(folder, domains: dict[str, str]):
    """The files of Linux's powercap below the folder, and what writes microjoules into them."""
    (folder / "intel-rapl").mkdir()
    (folder / "intel-rapl" / "subsystem").symlink_to(folder)
    for number, name in domains.items():
        domain = folder / "intel-rapl" / f"intel-rapl:{number}"
        domain.mkdir()
        (domain / "name").write_text(f"{name}\n")
        (domain / "max_energy_range_uj").write_text(f"{RANGE}\n")
        (folder / domain.name).symlink_to(domain)

    def write(microjoules: dict[str, int]) -> None:
        for number, counted in microjoules.items():
            (folder / "intel-rapl" / f"intel-rapl:{number}" / "energy_uj").write_text(f"{counted}\n")

    return write
