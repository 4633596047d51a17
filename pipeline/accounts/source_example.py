"""The study's own example, computed from its printed parts and laid beside what it prints.

Its sums come out: 15 + 10 + 20 + 5 = 50 and 40 + 25 + 60 + 15 = 140 thousand a model and year. Its break-evens, printed for 5, 10 and 20
models without a formula, come out in part:

    low    12 * lowest investment / (models * lowest savings without time to market) = 12 * 100 / (models * 30): 8, 4 and 2, as printed
    high   12 * highest platform and pipelines / (models * lowest savings) = 12 * 330 / (models * 50): 15.8, 7.9 and 4.0, for 14, 8 and 4

No formula that divides one investment by the models' savings gives all three high ones, whatever its parts: 5 models in 14 months are 70
model-months and 10 in 8 are 80. So the high end of 5 models does not come out, and the account says so. Both formulas are the nearest
that we found, and none of the study's.
"""

from __future__ import annotations

from typing import Any

from pipeline.settings.accounts import STUDY_FIGURES

CHANNELS = ("saved_engineer_time", "saved_incidents", "saved_time_to_market", "saved_compute")
INVESTMENTS = ("investment_platform", "investment_pipelines", "investment_training")
PRINTED_SUM = (50_000, 140_000)
# Months, from low to high, by models.
PRINTED = {5: (8, 14), 10: (4, 8), 20: (2, 4)}


def source_example() -> dict[str, Any]:
    """The sums and break-evens beside the printed ones, and whether each comes out when it is rounded to whole months."""
    saved = [sum(STUDY_FIGURES[name][end] for name in CHANNELS) for end in (0, 1)]
    invested = [sum(STUDY_FIGURES[name][end] for name in INVESTMENTS) for end in (0, 1)]
    without_market = saved[0] - STUDY_FIGURES["saved_time_to_market"][0]
    without_training = invested[1] - STUDY_FIGURES["investment_training"][1]
    rows = []
    for models, printed in PRINTED.items():
        months = 12 * invested[0] / (models * without_market), 12 * without_training / (models * saved[0])
        rows.append(
            {
                "models": models,
                "printed_low": printed[0],
                "printed_high": printed[1],
                "computed_low": months[0],
                "computed_high": months[1],
                "low_comes_out": round(months[0]) == printed[0],
                "high_comes_out": round(months[1]) == printed[1],
            }
        )
    return {
        "known": "claimed",
        "saved_a_model_and_year": saved,
        "sum_comes_out": tuple(saved) == PRINTED_SUM,
        "investment": invested,
        "break_even": rows,
        "formula_low": "12 x lowest investment / (models x lowest savings without time to market)",
        "formula_high": "12 x highest platform and pipelines / (models x lowest savings)",
        "does_not_come_out": "the high end of 5 models: 5 x 14 months are 70 model-months and 10 x 8 are 80, so no one formula gives both",
    }
