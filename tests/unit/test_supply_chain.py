"""What serves a version: its list, its licences, and the vulnerabilities that a database knows."""

from __future__ import annotations

import json
import zipfile
from types import SimpleNamespace

import pytest

from harness.project import CHURN, ROOT
from pipeline.errors import SettingsError
from pipeline.gates import supply_chain
from pipeline.gates.base import PackagedModel
from pipeline.gates.bill_of_materials import bill_of_materials
from pipeline.gates.known_vulnerabilities import PythonPackages, search
from pipeline.gates.osv_records import records
from pipeline.gates.serving_packages import ServingPackage, is_allowed, serving_packages
from pipeline.settings.models import Model


def model(**gates):
    return Model.model_validate({**CHURN, "gates": {**CHURN["gates"], **gates}})


@pytest.mark.parametrize(
    ("expression", "allowed"),
    [
        ("MIT", True),
        ("mit OR GPL-3.0-only", True),
        ("MIT AND GPL-3.0-only", False),
        ("MPL-2.0 AND (Apache-2.0 OR MIT)", False),
        ("(MIT OR GPL-3.0-only) AND BSD-3-Clause", True),
        ("GPL-2.0-only WITH Classpath-exception-2.0", False),
        ("", False),
    ],
)
def test_a_licence_expression_is_read_as_spdx_has_it(expression, allowed):
    """Of A OR B one is enough, of A AND B both are needed."""
    assert is_allowed(expression, frozenset({"MIT", "BSD-3-Clause"})) is allowed


def affected(*events, versions=()):
    of = {"package": {"ecosystem": "PyPI", "name": "Some_Package"}, "versions": list(versions)}
    return [{"id": "X-1", "affected": [of | {"ranges": [{"type": "ECOSYSTEM", "events": list(events)}]}]}]


@pytest.mark.parametrize(
    ("known", "found"),
    [
        (affected({"introduced": "0"}, {"fixed": "2.0"}), True),
        (affected({"introduced": "0"}, {"fixed": "1.10"}), False),
        (affected({"introduced": "1.11"}), False),
        (affected({"introduced": "1.0"}, {"last_affected": "1.10"}), True),
        (affected({"introduced": "0"}, {"fixed": "1.2"}, {"introduced": "1.9"}, {"fixed": "1.11"}), True),
        (affected({"introduced": "0"}, {"fixed": "0"}), False),
        (affected({"introduced": "0"}, {"limit": "*"}), True),
        (affected({"introduced": "no version"}), True),
        (affected(versions=["1.10"]), True),
        (affected(versions=["1.10.0"]), True),
        (affected(versions=["1.1", "no version"]), False),
        ([{"id": "X-1", "affected": [{"package": None}]}], False),
        ([{**affected(versions=["1.10"])[0], "withdrawn": "2024-01-01T00:00:00Z"}], False),
    ],
)
def test_a_version_is_vulnerable_by_its_order_and_not_as_text(known, found):
    """1.10 comes after 1.9; names are compared as PyPI does; what was withdrawn counts no more."""
    (searched,) = search(known, [PythonPackages([ServingPackage("some-package", "1.10")])])
    assert bool(searched.found) is found


def test_a_database_that_cannot_be_read_is_one_line_with_the_key(tmp_path):
    """A missing, empty or foreign database is an error and a failed verdict, never a passed gate."""
    (tmp_path / "requirements").symlink_to(ROOT / "requirements")
    for name, text in {
        "bad.json": "{}",
        "null.json": "null",
        "none.json": "[]",
        "vulns.json": '{"vulns": {"name": "X"}}',
        "affected.json": '[{"id": "X", "affected": [{"package": {"name": "numpy"}, "ranges": [{"events": ["0"]}]}]}]',
        "packages.json": '{"id": "X", "affected": [{"package": "numpy"}]}',
        "torn.zip": "PK",
    }.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "empty").mkdir()
    for name in [path.name for path in tmp_path.iterdir() if path.name != "requirements"] + ["missing.json"]:
        with pytest.raises(SettingsError, match="gates.supply_chain.vulnerabilities"):
            list(records(tmp_path / name))
        verdict = checked(tmp_path, vulnerabilities=name)
        assert verdict.stops and verdict.reason.startswith("gates.supply_chain.vulnerabilities: "), name


def checked(root, **settings):
    package = SimpleNamespace(manifest={"runtime": "onnx"}, classes=())
    return supply_chain.verdict(PackagedModel(model(supply_chain=settings), {}, None, None, package, root=root))


def test_an_old_database_is_told_and_stops_where_that_is_stated(tmp_path):
    """OSV's zip is read as it comes; its newest record says how old it is, and `database_days` how old it may be."""
    (tmp_path / "requirements").symlink_to(ROOT / "requirements")
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for number, at in enumerate(("2023-05-01T00:00:00.123456789Z", "2022-01-01T00:00:00Z")):
            told = {"id": f"PYSEC-{number}", "modified": at, "affected": [{"package": {"ecosystem": "PyPI"}}]}
            archive.writestr(f"PYSEC-{number}.json", json.dumps(told))
    told = checked(tmp_path, vulnerabilities="all.zip")
    assert told.passed and "none; 2 records of PyPI, the newest of 2023-05-01" in told.reason
    expired = checked(tmp_path, vulnerabilities="all.zip", database_days=30)
    assert expired.stops and (
        "the newest of 2023-05-01: too old to tell, it must be at most 30 days old (gates.supply_chain.database_days); "
        "download a newer export" in expired.reason
    )
    assert checked(tmp_path, vulnerabilities="all.zip", database_days=36500).passed


def test_a_licence_that_is_not_allowed_is_named_with_its_package(tmp_path):
    """Each package's licence must be among those that are named; how many more there are is said."""
    (tmp_path / "requirements").symlink_to(ROOT / "requirements")
    words = {word.strip("()") for p in serving_packages(ROOT, "onnx") for word in p.licence.split()}
    allowed = sorted(words - {"AND", "OR", "MPL-2.0", ""})
    refused = checked(tmp_path, licences=allowed)
    assert refused.stops and refused.reason.endswith(": orjson (MPL-2.0 AND (Apache-2.0 OR MIT))")
    assert checked(tmp_path, licences=[*allowed, "mpl-2.0"]).passed
    many = checked(tmp_path, licences=["MIT"])
    assert many.reason.endswith(f" and {many.observed - 5} more") and "onnxruntime" not in many.reason


def test_accepted_vulnerabilities_stop_nobody(tmp_path):
    """A vulnerability is accepted by any of its ids; one that is not is named with the package."""
    (tmp_path / "requirements").symlink_to(ROOT / "requirements")
    of = {
        "package": {"ecosystem": "PyPI", "name": "uvicorn"},
        "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}]}],
    }
    (tmp_path / "osv.json").write_text(json.dumps({"id": "PYSEC-1", "aliases": ["CVE-2099-1"], "affected": [of]}))
    package = SimpleNamespace(manifest={"runtime": "onnx"}, classes=())
    for accepted, stops in (([], True), (["CVE-2099-1"], False)):
        settings = model(supply_chain={"vulnerabilities": "osv.json", "accepted": accepted})
        verdict = supply_chain.verdict(PackagedModel(settings, {}, None, None, package, root=tmp_path))
        assert verdict.stops is stops and ("PYSEC-1" in verdict.reason) is stops


def test_the_list_of_what_is_served_is_valid_and_the_same_each_time():
    """It keeps CycloneDX's own schema, has each pinned package with its hashes, and no time."""
    manifest = {"model": "churn", "task": "binary", "runtime": "onnx", "files": {"model.onnx": "ab" * 32}}
    packages = serving_packages(ROOT, "onnx")
    listed = bill_of_materials(manifest, packages, "python:3.11")
    assert listed == bill_of_materials(manifest, packages, "python:3.11")
    assert (listed["bomFormat"], listed["specVersion"]) == ("CycloneDX", "1.6")
    purls = {each.get("purl") for each in listed["components"]}
    assert {"onnxruntime", "numpy"} <= {str(purl).removeprefix("pkg:pypi/").partition("@")[0] for purl in purls}
    assert "scikit-learn" not in str(purls) and "pkg:pypi/scikit-learn" in str(
        bill_of_materials(manifest, serving_packages(ROOT, "skops"))
    )
    assert all(len(package.hashes) >= 1 and package.version for package in packages)
