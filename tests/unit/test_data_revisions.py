"""What the ledger says of a partition's new file."""

import pandas as pd
import pytest

from pipeline.ledger import data_revisions
from pipeline.ledger.events import REVISED, REWRITTEN, DataLanded
from pipeline.ledger.store import Ledger
from pipeline.settings.source import Source

DAY, AS_OF = "2024-01-01.parquet", "2024-01-02T00:00:00Z"


@pytest.mark.parametrize(("spend", "why", "revisions"), [(1.0, REWRITTEN, [1, 1]), (2.0, REVISED, [1, 2])])
def test_the_same_rows_in_other_bytes_are_no_revision(tmp_path, spend, why, revisions):
    """Another version of Arrow writes a day otherwise; a number that was corrected is a revision of it."""
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    source = Source(query="SELECT 1", event_time="at", window_days=1)
    for md5, first, packed in (("older", 1.0, "zstd"), ("newer", spend, None)):
        (tmp_path / md5).mkdir()
        pd.DataFrame({"at": ["a", "b"], "spend": [first, 3.0]}).to_parquet(tmp_path / md5 / DAY, compression=packed)
        found = data_revisions.new_partitions(
            ledger, "churn", {DAY: md5}, tmp_path / md5, AS_OF, source, lambda old: tmp_path / old / DAY
        )
        landed = {name: partition.as_dict() for name, partition in found.items()}
        ledger.append(DataLanded(data_version=md5, as_of=AS_OF, partitions=1, landed=landed), "churn", md5)
    assert found[DAY].why == why
    assert [each.number for each in data_revisions.revisions(ledger, "churn")[DAY]] == revisions
