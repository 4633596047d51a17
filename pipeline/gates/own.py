"""A team's own gates: functions that `gates.own` names as `module:function`, in files of the project.

Each is called as ours are, with a `PackagedModel`, and returns a `Verdict`, or None where it does not apply. Their code is that of the
run's own files, so they run in a process of their own with that folder: this one serves other runs, with other files of the same name.
A gate that fails with an error has not passed. One that does not end within `gates.own_minutes`, or takes its process along, has not
either: a thread could not be ended, a process can, and the gates after it run in another one (own_process).
"""

from __future__ import annotations

import copy
import json
import math
import sys
import tempfile
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.gates.base import PackagedModel, Table, Verdict
from pipeline.gates.judged_champion import JudgedChampion
from pipeline.gates.own_process import Said, called, end_with, said
from pipeline.gates.packaged import packaged_model
from pipeline.settings.models import Model, load
from pipeline.workspaces.dvc_graph import Artifacts

REPORT = "own_gates.jsonl"
# Of a reason or a cell so many characters are kept.
MOST_WORDS = 2000


def verdicts(
    model: Model,
    files: Artifacts,
    champion_package: Path | None,
    champion_version: str | None,
    judged_champion: JudgedChampion | None = None,
    **asked: Any,
) -> list[Verdict]:
    """The verdicts of the model's own gates that are not off on the packaged model, in the order of `gates.own`; `asked` is for
    `packaged_model`. They get the champion as our gates do. Raises StageError when their process ends before it has called one."""
    left = asked_of(model)
    found: list[Verdict] = []
    with tempfile.TemporaryDirectory() as aside:
        judged = str(judged_champion.write(Path(aside))) if judged_champion is not None and left else None
        question = {
            "model": files.folder.name,
            "champion": str(champion_package.resolve()) if champion_package else None,
            "version": champion_version,
            "judged": judged,
            **asked,
        }
        while left:
            lines, limit_s = files.folder / REPORT, model.gates.own_minutes * 60
            answers, left = said("pipeline.gates.own", question, left, lines, files.folder.parents[1], limit_s)
            found += filter(None, (_heard(answer, model.gates.own_minutes) for answer in answers))
    return found


def _heard(answer: Said, minutes: float) -> Verdict | None:
    if answer.late:
        return _failed(
            answer.hook,
            f"did not end within {minutes:g} min and was ended: look for what it waits for, or raise gates.own_minutes",
        )
    if answer.code is not None:
        return _failed(answer.hook, f"its process ended with code {answer.code} and without a verdict; see its output")
    return Verdict.from_dict(answer.verdict) if answer.verdict is not None else None


def asked_of(model: Model) -> list[str]:
    """The own gates that are not off."""
    return [hook for hook in model.gates.own if model.gates.modes.get(hook) != "off"]


def verdict_of(hook: str, packaged: PackagedModel) -> Verdict | None:
    """What the gate `hook` says. An error in it, or an answer that is no verdict, is a failed verdict with the reason."""
    from pipeline.data.user_code import hook_function

    try:
        answer = hook_function(hook)(packaged)
        if answer is None:
            return None
        # The answer is theirs too: to look at it may end with an error as well.
        fault = _no_verdict(answer)
        return _failed(hook, f"must return a Verdict or None: {fault}") if fault else _checked(hook, answer)
    except (Exception, SystemExit) as error:
        return _failed(hook, f"{type(error).__name__}: {_first_line(error)}{_line_of(error, hook)}")


def _checked(hook: str, answer: Verdict) -> Verdict:
    """The verdict with what JSON and a database can hold, under the gate's own name."""
    return replace(
        answer,
        gate=hook,
        passed=bool(answer.passed),
        judged=bool(answer.judged),
        observed=float(answer.observed),
        limit=float(answer.limit),
        reason=_text(answer.reason),
        interval=None if answer.interval is None else (float(answer.interval[0]), float(answer.interval[1])),
        table=None if answer.table is None else _plain(answer.table),
    )


def _its_own(packaged: PackagedModel) -> PackagedModel:
    """What a gate does to its rows, figures and settings, the next one does not see."""
    rows = {name: getattr(packaged, name) for name in ("held_out", "served", "reference")}
    copies: dict[str, Any] = {name: table.copy() for name, table in rows.items() if table is not None}
    copies |= {name: copy.deepcopy(getattr(packaged, name)) for name in ("model", "validation", "evaluation", "known")}
    return replace(packaged, **copies)


def _no_verdict(answer: Any) -> str:
    """Why the answer is no verdict; '' when it is one."""
    if not isinstance(answer, Verdict):
        return f"got {answer!r}"[:200]
    if type(answer.passed).__name__ not in ("bool", "bool_"):
        return f"passed is {answer.passed!r}, not True or False"
    for name in ("observed", "limit"):
        try:
            number = float(getattr(answer, name))
        except (TypeError, ValueError, OverflowError):
            return f"{name} is {getattr(answer, name)!r}"[:200] + ", not a number"
        if not math.isfinite(number):
            return f"{name} is {number}"
    if not isinstance(answer.reason, str) or not answer.reason.strip():
        return f"reason is {answer.reason!r}, not words"
    if answer.mode not in ("on", "warn"):
        return f"mode is {answer.mode!r}, not on or warn"
    if answer.interval is not None and not _is_interval(answer.interval):
        return f"interval is {answer.interval!r}, not two numbers"
    if answer.table is not None and not _is_table(answer.table):
        return f"table is {answer.table!r}"[:200] + ", not a Table of rows"
    return ""


def _is_table(table: Any) -> bool:
    try:
        return isinstance(table, Table) and all(len(row) == len(table.columns) for row in table.rows)
    except TypeError:
        return False


def _is_interval(interval: Any) -> bool:
    try:
        low, high = map(float, interval)
    except (TypeError, ValueError, OverflowError):
        return False
    return low <= high and math.isfinite(low) and math.isfinite(high)


def _plain(table: Table) -> Table:
    """The table with cells that JSON can hold: numbers of NumPy as Python's, and anything else that is no number as text."""
    rows = tuple(tuple(_cell(value) for value in row) for row in table.rows)
    return Table(tuple(_text(str(name)) for name in table.columns), rows)


def _cell(value: Any) -> str | float | None:
    if value is None or isinstance(value, str):
        return _text(value) if value else value
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return _text(str(value))
    return number if math.isfinite(number) else str(number)


def _text(words: str) -> str:
    """Words as a database and a page can hold them: no half of a letter, no zero byte, and not a whole file."""
    whole = words.encode("utf-8", "replace").decode().replace("\0", "")
    return whole if len(whole) <= MOST_WORDS else f"{whole[:MOST_WORDS]}…"


def _failed(hook: str, reason: str) -> Verdict:
    return Verdict(hook, False, 0.0, 0.0, reason)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0][:200]


def _line_of(error: BaseException, hook: str) -> str:
    """Where in the gate's own module the error came from; '' when it came from elsewhere."""
    module = sys.modules.get(hook.partition(":")[0])
    file = getattr(module, "__file__", None)
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f" ({Path(file).name}, line {lines[-1]})" if file and lines else ""


def main(question: dict[str, Any]) -> None:
    """Runs own gates of a model in the current folder, those that the question names, and writes each verdict beside its artifacts."""
    name, champion = question["model"], question["champion"]
    files, model = Artifacts(Path.cwd(), name), load(Path.cwd()).model(name)
    packaged = packaged_model(
        model,
        files,
        Path(champion) if champion else None,
        question["version"],
        question["backfill"],
        question["accept_schema_change"],
        question["champion_trained_to"],
    )
    if judged := question["judged"]:
        packaged = replace(packaged, judged_champion=JudgedChampion.read(Path(judged)))
    for hook in question["hooks"]:
        with called(files.folder / REPORT, hook) as tell:
            verdict = verdict_of(hook, _its_own(packaged))
            tell(verdict.as_dict() if verdict is not None else None)


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    end_with(asked["asked_by"])
    main(asked)
