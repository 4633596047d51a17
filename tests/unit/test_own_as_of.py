"""A run's own as-of in its params.yaml."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from ruamel.yaml import YAML

from pipeline.workspaces import own_as_of

AS_OF = datetime(2024, 5, 6, tzinfo=UTC)
OWN = '"2024-05-06T00:00:00Z"'


def written(tmp_path, text: str) -> str:
    params = tmp_path / "params.yaml"
    params.write_text(text, encoding="utf-8")
    own_as_of.write(params, "churn", AS_OF)
    return params.read_text(encoding="utf-8")


def test_only_the_models_own_line_changes_and_times_become_text(tmp_path):
    """Comments, order and quotes stay; each of YAML's own times is in quotes, also in the block of another model."""
    text = """# Größe 📞
models:
  other: {as_of: 2024-03-01T02:00:00+02:00, days: [2024-01-01, 1e-5]}  # not ours
  churn:
    name: 'it''s'
    as_of: AS-OF  # the last day
    code: "010"
"""
    quoted = text.replace("2024-03-01T02:00:00+02:00", '"2024-03-01T02:00:00+02:00"').replace(
        "2024-01-01", '"2024-01-01"'
    )
    for before in ("2024-03-01", "'2024-03-01'", "2024-03-01 01:00:00 -5"):
        assert written(tmp_path, text.replace("AS-OF", before)) == quoted.replace("AS-OF", OWN)


@pytest.mark.parametrize("before", ["2024-05-06T00:00:00+00:00", "2024-05-06"])
def test_the_same_time_stays_in_its_words(tmp_path, before):
    """DVC would take the same time in other words for a new value."""
    text = f'models:\n    churn: {{as_of: "{before}"}}\n'
    assert written(tmp_path, text) == text


@pytest.mark.parametrize(
    "text",
    [
        "a: &a {as_of: 2024-01-01}\nmodels:\n  churn: {<<: *a, x: 1}\n  other: *a\n",
        "when: &when 2024-01-01\nmodels:\n  churn: {as_of: *when}\n  other: {as_of: *when}\n",
        "models:\n  churn: {as_of: &when 2024-01-01}\n  other: {as_of: *when}\n",
        "models:\n  churn: &c {as_of: 2024-01-01}\n  other: {<<: *c, as_of: 2024-01-02}\n",
    ],
)
def test_anchors_and_merged_keys_say_what_they_should(tmp_path, text):
    """The model's as-of is the run's, and the other's stays its own, as text that DVC reads."""
    models = YAML(typ="safe").load(written(tmp_path, text))["models"]
    before = YAML(typ="safe").load(text)["models"]
    assert models["churn"]["as_of"] == "2024-05-06T00:00:00Z"
    assert models["other"]["as_of"] == before["other"]["as_of"].isoformat()
