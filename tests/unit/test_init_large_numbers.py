"""`perennial init` of whole numbers so large that a double does not hold each of them."""

import numpy as np
import pytest

from pipeline.errors import PerennialError
from tests.unit.test_init import ROWS, TABLE, drafted, project

__all__ = ["project"]


@pytest.mark.parametrize("file", ["customers.csv", "customers.parquet"])
def test_numbers_that_a_double_merges_are_names(project, file):
    """Accounts of 18 digits are a category, in a CSV too: as numbers they would be one, or be refused by the first run."""
    table = TABLE.assign(account=10**17 + np.arange(ROWS) % 40)
    assert "account" in drafted(project, table, file).draft.settings["training"]["categorical"]


def test_a_double_that_lost_digits_is_no_key(project):
    """Ids that pandas made floats of are no key by themselves, and are refused as one by name."""
    table = TABLE.assign(customer_id=2.0**54 + 4.0 * np.arange(ROWS))
    assert "key" not in drafted(project, table, "customers.parquet").draft.settings["source"]
    with pytest.raises(PerennialError, match="--key customer_id: holds DOUBLE, and some are too large for it"):
        drafted(project, table, "customers.parquet", key="customer_id")
