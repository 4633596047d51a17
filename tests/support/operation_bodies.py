"""Bodies of the events of what a person on call does."""

OPERATION_BODIES = [
    ("frozen", {"reason": "Black Friday", "until": "2026-12-01T00:00:00+00:00", "by": "ann"}),
    (
        "pruned",
        {
            "removed": {"pages of looks": 3, "artifacts in MLflow": 2},
            "bytes": 4_100_000,
            "versions": ["1"],
            "rules": {"keep.versions": 1, "keep.versions_days": 90, "keep.predictions_days": None},
            "data_versions": [],
            "runs": [],
        },
    ),
    (
        "pruned",
        {
            **{"removed": {"files of data": 2}, "bytes": 90, "versions": [], "rules": {}, "remote_bytes": 80},
            **{"data_versions": ["d1"], "runs": ["r1"]},
        },
    ),
    (
        "slot_used",
        {
            **{"version": "2", "slot": "green", "start": "2026-12-01T00:00:00.000Z", "end": "2026-12-01T12:00:00.000Z"},
            **{"covered_s": 43_000.5, "busy_s": 512.25, "second": True},
        },
    ),
    (
        "landed_profiled",
        {
            **{"snapshot": "1a.dir", "quarantine": "2b", "edges": "3c", "profiles": "4d"},
            **{"partitions": ["2024-01-01.parquet", "2024-01-02.parquet"], "rows": 120, "pushed_bytes": 90},
        },
    ),
    (
        "labels_measured",
        {
            **{"as_of": "2024-03-01T00:00:00+00:00", "since": "2024-01-01T00:00:00+00:00", "labels": 40},
            "label_delay_s": {"median": 86_400, "p95": 172_800},
        },
    ),
    ("bytes_moved", {"what": "model card", "bytes": 40_000}),
    ("bytes_stored", {"places": {"packages": 4096, "the ledger": 123}}),
    ("unfrozen", {"reason": "it is over", "by": "ann"}),
]
