"""What is registered is what the gates have judged, whatever a team's own gate writes."""

import pytest

from pipeline.errors import GateError
from pipeline.gates import own, run_files
from pipeline.workspaces.dvc_graph import Artifacts


@pytest.fixture
def files(tmp_path):
    """The files of a run."""
    found = Artifacts(tmp_path, "churn")
    for path in (found.metrics, found.package / "model.onnx", tmp_path / "params.yaml"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("as it was judged")
    return found


def replaced(path):
    path.unlink()
    path.write_text("another text")


CHANGES = {
    "artifacts/churn/metrics.json": lambda files: replaced(files.metrics),
    "artifacts/churn/package/model.onnx": lambda files: (files.package / "model.onnx").unlink(),
    "artifacts/churn/package/note.txt": lambda files: (files.package / "note.txt").write_text("x"),
    "params.yaml": lambda files: replaced(files.folder.parents[1] / "params.yaml"),
}


@pytest.mark.parametrize("path", CHANGES)
def test_a_file_that_was_judged_and_is_another_now_ends_the_run(files, path):
    """The line names the file and the key; nothing is registered."""
    before = run_files.stamps(files)
    CHANGES[path](files)
    with pytest.raises(GateError, match=r"an own gate \(gates.own\) has changed what the gates judged") as error:
        run_files.refuse_changed("churn", before, files)
    assert f": {path};" in str(error.value)


def test_what_a_gate_writes_for_itself_is_its_own(files):
    """A picture beside the artifacts, and the lines by which gates tell their verdicts, change nothing that was judged."""
    (files.folder / own.REPORT).write_text("of an earlier try")
    before = run_files.stamps(files)
    (files.folder / own.REPORT).write_text("told")
    (files.folder / "plans.svg").write_text("<svg/>")
    run_files.refuse_changed("churn", before, files)
