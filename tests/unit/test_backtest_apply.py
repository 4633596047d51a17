"""What a backtest recommends is written into the block, and nothing else changes."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pipeline.errors import SettingsError
from pipeline.runs.backtest.apply import apply
from pipeline.settings import yaml_file

TEXT = """# ours
models:
  other: {as_of: x}
  churn:   # the one
    description: who leaves
    schedule:
      cron: "0 0 * * 1"
"""


def found(best, schedule=None, tells=True):
    comparison = SimpleNamespace(tells=tells, best=SimpleNamespace(policy=best), schedule=schedule)
    return SimpleNamespace(
        model="churn",
        windows=None,
        comparison=comparison,
        span=SimpleNamespace(days=7),
        recommendation="history cannot tell",
    )


@pytest.mark.parametrize(
    ("best", "schedule", "policy"),
    [
        ("value", 3, {"rule": "value"}),
        ("tuned schedule", 3, {"rule": "schedule", "every_days": 21}),
        ("tuned schedule", None, {"rule": "never"}),
        ("always", 3, {"rule": "schedule", "every_days": 7}),
        ("never", 3, {"rule": "never"}),
    ],
)
@pytest.mark.parametrize(
    "section",
    [
        "",
        "    policy:\n      window_days: 7   # a week\n",
        "    policy:\n      rule: drift  # as it was\n",
        "    policy: {window_days: 7}   # a week\n",
        "    policy: {rule: drift, window_days: 7}   # a week\n",
        "    policy: {}\n",
        "    policy:\n      # nothing yet\n    team: ~\n",
        "    policy: null  # nothing yet\n",
        "    policy:\n      rule:  # nothing yet\n",
    ],
)
def test_the_policy_stands_in_the_block_and_all_else_as_it_was(tmp_path, best, schedule, policy, section):
    """Also beside other keys of the section, and in place of another rule; comments stay."""
    file = tmp_path / "params.yaml"
    file.write_bytes((TEXT + section).replace("\n", "\r\n").encode())
    before = yaml_file.parse(TEXT + section)
    assert apply(tmp_path, found(best, schedule)) == f"params.yaml has models.churn.policy.rule: {policy['rule']} now"
    text = file.read_bytes().decode()
    after = yaml_file.parse(text)
    block = before["models"]["churn"]
    assert after["models"]["churn"] == {**block, "policy": {**(block.get("policy") or {}), **policy}}
    assert after["models"]["other"] == before["models"]["other"]
    assert [line for line in text.split("\r\n") if "#" in line] and "\n" not in text.replace("\r\n", "")
    for comment in ("# ours", "# the one", *(each for each in ("# a week", "# nothing yet") if each in section)):
        assert comment in text


def test_a_training_window_that_lost_less_is_written_beside_the_policy(tmp_path):
    """Into the section `source`, in place of what stood there; alone where no policy is proven; not where it is not proven."""
    file = tmp_path / "params.yaml"
    source = "    source:\n      window_days: 30  # a month\n"
    for tells, proven, told in (
        (True, True, ("policy.rule: value", "source.window_days: 90")),
        (False, True, ("source.window_days: 90",)),
        (True, False, ("policy.rule: value",)),
    ):
        file.write_text(TEXT + source)
        made = found("value", tells=tells)
        made.windows = SimpleNamespace(best=SimpleNamespace(proven=proven, days=90.0))
        said = " and ".join(f"models.churn.{key}" for key in told)
        assert apply(tmp_path, made) == f"params.yaml has {said} now"
        block = yaml_file.parse(file.read_text())["models"]["churn"]
        assert block["source"]["window_days"] == (90 if proven else 30)
        assert ("policy" in block) == tells
        assert "# a month" in file.read_text()


def test_what_history_cannot_tell_is_not_written(tmp_path):
    """The file stays as it was, and the line says why."""
    file = tmp_path / "params.yaml"
    file.write_text(TEXT)
    with pytest.raises(SettingsError, match="backtest churn --apply: writes nothing; history cannot tell"):
        apply(tmp_path, found("value", tells=False))
    assert file.read_text() == TEXT


def test_a_model_in_braces_gets_its_policy_in_them(tmp_path):
    """Beside text of two bytes a character, and behind a byte order mark."""
    file = tmp_path / "params.yaml"
    file.write_bytes("\ufeffmodels: {churn: {description: Kündigung, policy: {}}}  # ours\n".encode())
    apply(tmp_path, found("tuned schedule", 3))
    written = "\ufeffmodels: {churn: {description: Kündigung, policy: {every_days: 21, rule: schedule}}}  # ours\n"
    assert file.read_bytes().decode() == written


@pytest.mark.parametrize(
    "text",
    [
        "models:\n  other:\n    policy: &shared {window_days: 7}\n  churn:\n    policy: *shared\n",
        "models:\n  churn: &shared\n    policy: {window_days: 7}\n  other: *shared\n",
        "models:\n  churn:\n    policy:\n      rule: >-\n        drift\n      window_days: 7\n",
    ],
)
def test_where_lines_cannot_be_changed_the_keys_are_told_that_a_person_has_to_write(tmp_path, text):
    """Where two models share a section or a whole block, so that the other one stays as it was, and where a value has lines of its own."""
    file = tmp_path / "params.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=r"write models\.churn\.policy\.rule: schedule and .* by hand"):
        apply(tmp_path, found("tuned schedule", 3))
    assert file.read_text() == text
