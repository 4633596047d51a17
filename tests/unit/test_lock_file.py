"""dvc.lock is written quickly, and DVC reads the same out of it."""

import json
from collections import OrderedDict

from dvc import dvcfile
from dvc.fs import localfs
from dvc.utils.serialize import load_yaml, modify_yaml

from pipeline.workspaces import lock_file

SETTINGS = {
    "z": None,
    "nested": [1, 2, {"yes": True}],
    "numbers": [1e-7, 1e300, 0.1 + 0.2, -0.0, float("inf"), 2**70],
    "texts": [
        "1e5",
        "007",
        "12:30",
        "2024-01-01T00:00:00Z",
        "null",
        "yes",
        "- x",
        " a",
        "a\nb",
        "größer 📞",
        "w " * 200,
    ],
    "empty": [{}, []],
}
STAGE = OrderedDict(cmd="stage train", deps=[OrderedDict(path="ä b.py", md5="1234e5", size=12)], params={"p": SETTINGS})


def test_dvc_reads_what_it_would_have_written_itself(tmp_path):
    """Also of texts that are numbers to some, and in the order of the stages; a second stage leaves the first as it was."""
    read = []
    for modify in (modify_yaml, lock_file.modified):
        for number in "21":
            with modify(tmp_path / modify.__module__, fs=localfs) as content:
                content.setdefault("stages", {})[f"train@{number}"] = STAGE
        read.append(json.dumps(load_yaml(tmp_path / modify.__module__)))
    assert read[0] == read[1] == json.dumps({"stages": {"train@2": STAGE, "train@1": STAGE}})


def test_dvc_writes_as_usual_outside_of_a_run():
    """Its own function is back after the block, whatever happens in it."""
    usual = dvcfile.modify_yaml
    try:
        with lock_file.quickly_written():
            assert dvcfile.modify_yaml is lock_file.modified
            raise KeyError
    except KeyError:
        assert dvcfile.modify_yaml is usual
