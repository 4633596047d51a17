"""dvc.lock as DVC reads and writes it, in a third of its time.

After each stage DVC reads the file with all that a person could have written into it, comments and line breaks, and writes it anew: in
Python, for hundreds of files of code at each of the stages. In a workspace nobody but DVC writes this file, so that LibYAML may read and
write it there. It has the same content in the same order; long texts are folded at other words.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.representer import SafeRepresenter


class _Plain(SafeRepresenter):
    """Writes an ordered dict as a dict."""


_Plain.add_representer(OrderedDict, _Plain.represent_dict)


@contextlib.contextmanager
def modified(path: Any, fs: Any = None) -> Iterator[Any]:
    """DVC's `modify_yaml`: the file's content, {} where there is none, which is written back after the block. `fs` is a file system of DVC."""
    from dvc.utils.serialize import load_yaml

    # By YAML 1.2, as DVC does: 1e5 is a number and needs quotes as a text.
    data = load_yaml(path, fs=fs) if fs.exists(str(path)) else {}
    yield data
    writer = YAML(typ="safe")
    writer.Representer = _Plain
    writer.default_flow_style = False
    writer.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # None until it is set
    with fs.open(path, "w+", encoding="utf-8") as file:
        writer.dump(data, file)


@contextlib.contextmanager
def quickly_written() -> Iterator[None]:
    """In the block DVC writes dvc.lock by `modified`."""
    from dvc import dvcfile

    usual = dvcfile.modify_yaml
    dvcfile.modify_yaml = modified
    try:
        yield
    finally:
        dvcfile.modify_yaml = usual
