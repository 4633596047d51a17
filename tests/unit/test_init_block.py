"""`perennial init` and the text of params.yaml: line ends, anchors and forms that people write."""

import pytest
import yaml

from pipeline.errors import SettingsError
from pipeline.init import block
from pipeline.init.draft import compared_by
from pipeline.settings.policy import Policy
from tests.unit.test_init import DRAFT, PARAMS

FORMS = {
    "anchors": PARAMS + "  one: &one\n    a: 1\n  two:\n    <<: *one\n",
    "a mark": "\ufeff" + PARAMS + "  one: {a: 1}\n",
    "a document": "---\n" + PARAMS + "  one: {a: 1}\n...\n",
    "a quoted key": PARAMS.replace("models:", '"models":') + "  'one':\n    a: 1\n    # of one\n",
    "null": PARAMS.replace("models:", "models: ~  # none yet"),
}


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("form", FORMS)
def test_each_line_stays_as_it_is_written(tmp_path, form, end):
    """No line of the file changes but `models:` without models, and the block has the file's line ends."""
    file = tmp_path / "params.yaml"
    given = FORMS[form].replace("\n", end).encode()
    file.write_bytes(given)
    block.add(file, DRAFT)
    written = file.read_bytes()
    empty = f"models: ~  # none yet{end}".encode()
    assert set(given.splitlines(keepends=True)) - set(written.splitlines(keepends=True)) <= {empty}
    assert written.count(b"\n") == written.count(end.encode())
    assert DRAFT.model in yaml.safe_load(written)["models"]


def test_a_file_that_cannot_take_a_block_stays_as_it_is(tmp_path):
    """Models in one line of braces are refused in one line, and nothing is written."""
    file = tmp_path / "params.yaml"
    file.write_text(given := "models: {one: {a: 1}}\n")
    with pytest.raises(SettingsError, match="on lines of its own") as refused:
        block.add(file, DRAFT)
    assert "\n" not in str(refused.value) and file.read_text() == given


def test_a_link_stays_a_link_and_a_mode_stays(tmp_path):
    """The file that a link points to gets the block, with the rights that it had."""
    (tmp_path / "real.yaml").write_text(PARAMS)
    (tmp_path / "real.yaml").chmod(0o640)
    (tmp_path / "params.yaml").symlink_to("real.yaml")
    block.add(tmp_path / "params.yaml", DRAFT)
    assert (tmp_path / "params.yaml").is_symlink()
    assert DRAFT.model in (tmp_path / "real.yaml").read_text()
    assert (tmp_path / "real.yaml").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    ("rows_a_day", "section"), [(900.0, {}), (10.0, {"window_days": 14.0}), (0.5, {"window_days": 112.0})]
)
def test_losses_are_compared_by_windows_that_have_enough_rows(rows_a_day, section):
    """A week where it has a hundred rows, else longer windows; and somebody is told when a retrain comes."""
    said = []
    assert compared_by(rows_a_day, said) == section
    assert Policy.model_validate(section).rule == "value"
    assert "until a backtest says more, a guess: after 183 days" in str(said[0])
