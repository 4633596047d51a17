"""The card's parts on what the version is for, and what it was made of: purpose, data, features, training and limits."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from pipeline.registry.lookups import AS_OF_TAG
from pipeline.registry.versions import CODE_TAG, DATA_TAG, DIGEST_TAG, PACKAGE_TAG
from pipeline.runs.model_card.content import NOT_RECORDED, CardTable, Section, said
from pipeline.runs.model_card.known import Known
from pipeline.serving.runtime import output_of

COLUMNS_SHOWN = 200


def purpose(known: Known) -> Section:
    """What is predicted and whose it is; a note where the block says no purpose."""
    manifest = known.records.file("package/manifest.json")
    facts = [
        ("purpose", said(known.block.get("description"))),
        ("a prediction is", said(manifest.get("answer"))),
        ("task", said(known.section("training").get("task") or manifest.get("task"))),
        ("team", said(known.block.get("team"))),
    ]
    if manifest.get("classes"):
        facts.append(("classes", said(manifest["classes"])))
    missing = [] if known.block.get("description") else [f"Say what it is for under models.{known.model}.description."]
    return Section("Purpose", facts, notes=missing)


def identity(known: Known) -> Section:
    """The version's names and digests: what to look for in MLflow, git and the ledger, and the command that makes it
    again."""
    tags, code = known.records.tags, known.records.tags.get(CODE_TAG)
    uncommitted = tags.get("perennial.uncommitted") == "true"
    return Section(
        "Version",
        [
            ("version", known.version),
            ("aliases in MLflow", ", ".join(known.records.aliases) or "none"),
            ("registered", known.registered.at if known.registered else NOT_RECORDED),
            ("run", known.registered.run if known.registered else said(tags.get("perennial.run"))),
            ("why it was trained", said(known.opened.event.reason if known.opened else tags.get("perennial.reason"))),
            ("MLflow run", known.records.mlflow_run),
            ("code", said(code) + (", with what was not committed" if uncommitted else "")),
            ("package", said(tags.get(PACKAGE_TAG))),
            ("model file", said(tags.get(DIGEST_TAG))),
            ("made again by", f"perennial reproduce {known.model} {known.version}"),
        ],
    )


def data(known: Known) -> Section:
    """Where the rows came from, how many were left out and why, and which were held out; numbers are of rows."""
    source, counts = known.section("source"), known.records.file("snapshot.json")
    checked, evaluation = known.records.file("validation.json"), known.records.file("metrics.json")
    start, end, held_out = window(known)
    landed = known.landed.event if known.landed else None
    left_out = [
        f"{counts[name]:,} {words}"
        for name, words in (
            ("without_label", "lack a label"),
            ("label_later", "got their label after the as-of"),
            ("without_time", "have no event time"),
        )
        if counts.get(name)
    ]
    facts = [
        ("source", said(source.get("query") or source.get("files") or source.get("hook"))),
        ("data version", said(known.records.tags.get(DATA_TAG))),
        ("window", f"{start} to {end}" if start else NOT_RECORDED),
        ("held out", f"{held_out} to {end}" if held_out else NOT_RECORDED),
        ("rows of the window", said(counts.get("in"))),
        ("left out", "; ".join(left_out) or ("none" if counts else NOT_RECORDED)),
        ("rows that break the contract", said(checked.get("quarantined"))),
        ("rows that the judged model learnt from", said(evaluation.get("trained_rows"))),
        ("rows held out", said(evaluation.get("rows"))),
        ("partitions", said(counts.get("partitions"))),
        ("label delay", _delay(checked.get("label_delay_s"))),
        ("copy of the data", said(landed.remote if landed else None)),
    ]
    faults = checked.get("faults") or ()
    rows = [[said(f.get("column")), said(f.get("check")), said(f.get("rows"))] for f in faults]
    tables = [CardTable(["column", "rule", "rows"], rows, "In quarantine")] if rows else []
    return Section("Data", facts, tables)


def window(known: Known) -> tuple[str, str, str]:
    """(start, end, the first held-out moment) of the version's rows, as days or times; '' for what is not known."""
    as_of = known.records.tags.get(AS_OF_TAG)
    if not as_of:
        return "", "", ""
    end = datetime.fromisoformat(as_of)

    def before(days: Any) -> str:
        return _moment(end - timedelta(days=float(days))) if days is not None else ""

    days = known.section("source").get("window_days")
    return before(days), _moment(end), before(known.section("evaluation").get("holdout_days"))


def _moment(time: datetime) -> str:
    return f"{time:%Y-%m-%d}" if (time.hour, time.minute, time.second) == (0, 0, 0) else f"{time:%Y-%m-%d %H:%M:%S} UTC"


def _delay(delay: Any) -> str:
    if not isinstance(delay, dict) or "median" not in delay:
        return NOT_RECORDED
    return ", ".join(f"{name} {delay[name] / 86_400:.3g} days" for name in ("median", "p95") if name in delay)


def features(known: Known) -> Section:
    """The columns that a request has, with what a value may be; COLUMNS_SHOWN of them at the most."""
    columns = (known.records.file("package/manifest.json").get("schema") or {}).get("columns") or ()
    rows = [[c["name"], c.get("kind", ""), "; ".join(_rules(c)) or "any value"] for c in columns[:COLUMNS_SHOWN]]
    more = len(columns) - len(rows)
    notes = [f"{more:,} more columns."] if more > 0 else []
    return Section(
        "Features", tables=[CardTable(["column", "kind", "what it may be"], rows)] if rows else [], notes=notes
    )


def _rules(column: dict[str, Any]) -> Iterator[str]:
    if column.get("min") is not None:
        yield f"at least {column['min']:g}"
    if column.get("max") is not None:
        yield f"at most {column['max']:g}"
    if allowed := column.get("allowed"):
        shown = ", ".join(map(str, allowed[:20]))
        yield f"one of {shown}" + (f" and {len(allowed) - 20} more" if len(allowed) > 20 else "")
    if column.get("nullable") is False:
        yield "not missing"


def training(known: Known) -> Section:
    """The estimator as it learnt: options that a search chose, encodings by column, and what training remarked."""
    settings, evaluation = known.section("training"), known.records.file("metrics.json")
    manifest, search = known.records.file("package/manifest.json"), evaluation.get("search") or {}
    encodings = (evaluation.get("encodings") or {}).get("by_column") or {}
    facts = [
        ("estimator", said(settings.get("estimator", "hist_gradient_boosting") if settings else None)),
        ("options", said(settings.get("options")) if settings.get("options") else "as the estimator has them"),
        ("options chosen by a search", said(search.get("chosen")) if search else "none was made"),
        ("seed", said(settings.get("seed", 0)) if settings else NOT_RECORDED),
        ("encodings", said(encodings) if encodings else "no categories" if evaluation else NOT_RECORDED),
        ("calibration", str(settings.get("calibration", "none")) if settings else NOT_RECORDED),
        ("weight of a row", str(settings.get("weight") or "all count alike") if settings else NOT_RECORDED),
        ("served as", _served(manifest)),
        ("made with", said(known.records.file("environment.json"))),
    ]
    return Section("Training", facts, notes=[f"{line}." for line in evaluation.get("remarks") or ()])


def _served(manifest: dict[str, Any]) -> str:
    if not manifest:
        return NOT_RECORDED
    why = manifest.get("runtime_reason")
    return f"{manifest.get('runtime', 'onnx')}, which gives a {output_of(manifest)}" + (f" ({why})" if why else "")


def limits(known: Known) -> Section:
    """What the version was not made for."""
    start, end, held_out = window(known)
    manifest, counts = known.records.file("package/manifest.json"), known.records.file("snapshot.json")
    columns = (manifest.get("schema") or {}).get("columns") or ()
    notes = []
    if start:
        # A version that was fitted again on the held-out rows says so.
        until = _moment(datetime.fromisoformat(manifest["trained_to"])) if "trained_to" in manifest else held_out or end
        notes.append(f"It learnt from events of {start} to {until}, and knows of nothing later.")
    if counts.get("without_label") or counts.get("label_later"):
        unlabelled = counts.get("without_label", 0) + counts.get("label_later", 0)
        notes.append(f"It learnt nothing from {unlabelled:,} rows that had no label by then.")
    if any(_is_bound(c) for c in columns):
        breach = (known.section("rollout").get("serving") or {}).get("on_breach", "refuse")
        notes.append(
            "A value outside of what a column may be (under Features) is "
            + ("refused." if breach == "refuse" else "answered, and marked in the prediction log.")
        )
    if any(c.get("kind") == "category" for c in columns):
        notes.append("Of a category that training never saw it knows nothing; such a request is answered, and counted.")
    if columns:
        notes.append("Explanations and importances say what it uses, and not what causes the target.")
    personal = (known.section("rollout").get("serving") or {}).get("personal") or {}
    facts = (
        [("personal columns in the prediction log", said(personal) if personal else "none are marked")]
        if known.block
        else []
    )
    return Section("Limits", facts, notes=notes)


def _is_bound(column: dict[str, Any]) -> bool:
    return any(True for _ in _rules(column))
