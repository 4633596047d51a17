"""(kind, body) of the events about service levels and notices, as tests/unit/test_ledger_events.py has those of all others."""

SLO_BODIES = [
    (
        "budget_burning",
        {
            **{"objective": "p95_ms", "severity": "critical", "rate": 19.2, "hours": 1},
            **{"reason": "96 of 100 answers were slower", "version": "2"},
        },
    ),
    ("budget_calm", {"objective": "p95_ms"}),
    ("budget_spent", {"objective": "success", "window_days": 30, "reason": "104 % are used", "version": "2"}),
    ("budget_restored", {"objective": "success"}),
    ("burn_rollback_held", {"version": "2", "reason": "its predecessor burnt it too"}),
    ("disk_nearly_full", {"folder": "/home", "free_share": 0.04, "free_mb": 900, "limit": 0.1}),
    ("disk_has_room", {"folder": "/home", "free_share": 0.4}),
    ("notices_began", {"target": "NOTIFY_SLACK"}),
    ("notice_sent", {"target": "NOTIFY_SLACK", "key": "k", "of": 7, "severity": "warning", "said": "it drifts"}),
    ("notice_failed", {"target": "NOTIFY_SLACK", "keys": ["k"], "why": "refused", "given_up": False}),
]
