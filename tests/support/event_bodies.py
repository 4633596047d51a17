"""Bodies of events as the ledger has them: those of approvals, of pruning and of backtests."""

BACKTEST = {
    "start": "2024-01-01",
    "end": "2024-03-25",
    "window_days": 7.0,
    "windows": 12,
    "delay": 1,
    "compared_from": "2024-01-29",
    "loss": "log_loss",
    "recommendation": "use value",
    "best": "value",
    "tells": True,
    "curve": [{"age": 1, "excess": 0.1, "pairs": 11}],
    "staleness": {"b": 0.1, "slow": 8.0, "error": 0.01, "blocks": 9, "alarmed": 1.0},
    "gains": {"looks": 3.0},
    "economics": {"retrain": 24.0, "currency": "EUR"},
    "policies": [{"policy": "value", "total": 90.0, "retrains": 2}],
    "report": None,
}
EVIDENCE = {
    "version": "2",
    "digest": "ab12",
    "parts": {
        "package": "d1",
        "data_version": "d.dir",
        "code_revision": "c0ffee",
        "gate_report": "9a",
        "image": "sha256:77",
    },
    "files": {"manifest.json": "d1", "model.onnx": "d2"},
}
MORE_BODIES = [
    (
        "pruned",
        {
            "removed": {"pages of looks": 3, "artifacts in MLflow": 2},
            "bytes": 4_100_000,
            "versions": ["1"],
            "rules": {"keep.versions": 1, "keep.versions_days": 90, "keep.predictions_days": None},
        },
    ),
    (
        "approval_asked",
        {**EVIDENCE, "until": "2024-03-04T00:00:00+00:00", "asked_by": "ann", "through": "airflow"},
    ),
    ("approved", {**EVIDENCE, "by": "bob", "through": "airflow", "reason": "gates are fine", "note": ""}),
    ("rejected", {"version": "2", "by": "bob", "through": "command", "reason": "too late"}),
    (
        "deploy_refused",
        {"version": "2", "why": "is not approved", "changed": ["image: what serves"], "asked_by": "ann"},
    ),
    (
        "settings_changed",
        {
            "digest": "ab12",
            "settings": {"approval": "required"},
            "changed": {"approval": ["none", "required"]},
            "code_revision": "c0ffee",
            "author": "ann <ann@example.org>",
            "asked_by": "bob",
        },
    ),
]
