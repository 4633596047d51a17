"""The watch after a rollout compares two versions on the champion's log, or says why the log does not tell."""

from types import SimpleNamespace

import pandas as pd
import pytest

from pipeline.ledger.package_of_version import PackageOfVersion
from pipeline.runs import logged_answers
from pipeline.serving.runtime import Runtime
from pipeline.serving.schema import Column, Reader, Schema

SINCE, NOTE = Column("since", "datetime"), Column("note", "text", groups=512)


@pytest.mark.parametrize(
    ("champion", "predecessor", "why"),
    [
        (
            Schema((SINCE,), timezone="Europe/Berlin"),
            Schema((SINCE,)),
            "a time without a zone is one in Europe/Berlin to one version, in UTC to the other",
        ),
        (
            Schema((Column("note", "text", groups=64),)),
            Schema((NOTE,)),
            "version 1 needs the words of note in 512 groups, which requests no longer carry",
        ),
    ],
)
def test_what_the_log_does_not_tell_the_predecessor_is_not_compared(monkeypatch, champion, predecessor, why):
    """Times that the champion read in another zone, and words in other groups, are no values of the predecessor's."""
    monkeypatch.setattr(Runtime, "load", lambda folder: SimpleNamespace(reader=Reader(predecessor), features=[]))
    monkeypatch.setattr(logged_answers, "schema_of", lambda *_: champion)
    serving = SimpleNamespace(personal={})
    model = SimpleNamespace(rollout=SimpleNamespace(serving=serving))
    context = SimpleNamespace(
        registry=SimpleNamespace(package_folder=lambda *_: None), params=SimpleNamespace(model=lambda _: model)
    )
    rows = pd.DataFrame(columns=champion.numbers)
    with pytest.raises(logged_answers.Incomparable, match=why):
        logged_answers.answers_of(context, "churn", PackageOfVersion("1", ""), rows, SimpleNamespace(version="2"))
