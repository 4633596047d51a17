"""A run's params.yaml has the block of its model alone."""

import pytest

from pipeline.settings import yaml_file
from pipeline.workspaces import own_block

TEXT = """\
# What all share.
prices: {cpu_h: 1}
models:
  # The first.
  one:
    as_of: '2024-01-01T00:00:00Z'
    source:
      query: |
        SELECT 1

        FROM t  # no comment
  # The second.
  two: {as_of: '2024-02-01T00:00:00Z'}  # in braces
  "three":
    as_of: '2024-03-01T00:00:00Z'
# At the end.
teams: {a: {}}
"""


@pytest.mark.parametrize("model", ["one", "two", "three"])
def test_the_blocks_of_other_models_are_taken_out(tmp_path, model):
    """Its own block, and what all models share, stays word for word."""
    (params := tmp_path / "params.yaml").write_text(TEXT)
    own_block.keep(params, model)
    settings, kept = yaml_file.parse(TEXT), params.read_text()
    assert yaml_file.parse(kept) == settings | {"models": {model: settings["models"][model]}}
    assert kept.startswith("# What all share.\nprices: {cpu_h: 1}\nmodels:\n")
    assert set(kept.splitlines()) < set(TEXT.splitlines()) and kept.endswith("teams: {a: {}}\n")


@pytest.mark.parametrize(
    "text",
    [
        "models:\n  one: &shared {as_of: a}\n  two: *shared\n",
        "models: {one: {as_of: a}, two: {as_of: b}}\n",
        "models:\n  two: {as_of: b}\n",
        "models:\n  ? one\n  : {as_of: a}\n  ? two\n  : {as_of: b}\n",
    ],
)
def test_a_file_that_lines_do_not_divide_stays_whole(tmp_path, text):
    """An anchor may stand in another block than its use, and lines in braces belong to several."""
    (params := tmp_path / "params.yaml").write_text(text)
    own_block.keep(params, "two")
    kept = params.read_text()
    assert kept == text or yaml_file.parse(kept) == {"models": {"two": {"as_of": "b"}}}
