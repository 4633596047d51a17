"""What a run's last steps import is there when its stages have ended."""

import sys
import threading

import pytest

from pipeline.runs import imports_ahead


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(imports_ahead, "LIBRARIES", ("this_is_no_library", "chunk"))
    monkeypatch.setattr(imports_ahead, "cache_mlflow_package_list", lambda: None)
    monkeypatch.delitem(sys.modules, "chunk", raising=False)


def test_libraries_are_imported_while_stages_run(few, caplog):
    """At the block's end they are there; one that cannot be imported is a warning."""
    with imports_ahead.imported_meanwhile():
        pass
    assert "chunk" in sys.modules
    assert "this_is_no_library is not imported" in caplog.text


def test_a_stage_that_fails_waits_for_no_library(few, monkeypatch):
    """Its error goes on at once, while libraries are still being imported."""
    never = threading.Event()
    monkeypatch.setattr(imports_ahead, "import_all", lambda _: never.wait(60))
    with pytest.raises(RuntimeError, match="no rows"), imports_ahead.imported_meanwhile():
        raise RuntimeError("no rows")
    assert not never.is_set()
    never.set()
