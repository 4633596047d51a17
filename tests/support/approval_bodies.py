"""Bodies of the events of approvals."""

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
APPROVAL_BODIES = [
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
        "other_image",
        {
            "version": "2",
            "slot": "blue",
            "approved": "sha256:77",
            "image": "sha256:78",
            "why": "the engine has it no more",
        },
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
