"""The distribution below our packages: its vulnerabilities by source package, its licences, and what nobody could read."""

from __future__ import annotations

import json
import zipfile
from types import SimpleNamespace

import pytest

from harness.project import CHURN, ROOT
from pipeline.errors import RolloutError
from pipeline.gates import supply_chain
from pipeline.gates.base import PackagedModel
from pipeline.gates.image_system import ImageSystem, ServingSystem, SystemPackage
from pipeline.gates.known_vulnerabilities import search
from pipeline.gates.system_packages import SystemPackages, is_allowed
from pipeline.settings.models import Model

PACKAGES = (
    SystemPackage("libc6", "2.36-9+b1", "amd64", "glibc", "2.36-9", ("LGPL-2.1+", "GPL-2+ with link exception")),
    SystemPackage("libc-bin", "2.36-9+b1", "amd64", "glibc", "2.36-9", ("LGPL-2.1+",)),
    SystemPackage("libcap2", "1:2.66-4", "amd64", licences=("BSD-3-clause or GPL-2",)),
    SystemPackage("odd", "1.0~rc1-1", "all"),
)
IMAGE = ImageSystem("sha256:cd", "debian", "12", PACKAGES)
DOCKER = ServingSystem("docker", "docker engine 28", "sha256:" + "ab" * 32, IMAGE)


def record(name, *events, ecosystem="Debian:12", number="DEBIAN-CVE-2099-1", **more):
    of = {"package": {"ecosystem": ecosystem, "name": name}, "ranges": [{"type": "ECOSYSTEM", "events": list(events)}]}
    urgency = more.pop("urgency", None)
    return {"id": number, "affected": [of | ({"ecosystem_specific": {"urgency": urgency}} if urgency else {})], **more}


EVER = {"introduced": "0"}
OURS = record("numpy", {"introduced": "999"}, ecosystem="PyPI", number="PYSEC-1")


def checked(root, *known, served=DOCKER, engine="auto", **settings):
    """The verdict by these records, where `served` would serve."""
    if not (root / "requirements").exists():
        (root / "requirements").symlink_to(ROOT / "requirements")
    if known:
        (root / "osv.json").write_text(json.dumps(known))
        settings["vulnerabilities"] = "osv.json"
    block = {**CHURN, "gates": {**CHURN["gates"], "supply_chain": settings}, "rollout": {"engine": engine}}
    package = SimpleNamespace(manifest={"runtime": "onnx"}, classes=())

    def ask(runtime):
        assert runtime == "onnx"
        if isinstance(served, Exception):
            raise served
        return served

    given = PackagedModel(Model.model_validate(block), {}, None, None, package, root=root, serving_system=ask)
    return supply_chain.verdict(given)


@pytest.mark.parametrize(
    ("known", "found"),
    [
        (record("glibc", EVER, {"fixed": "2.36-9+deb12u1"}), "glibc 2.36-9 (libc-bin, libc6)"),
        (record("glibc", EVER, {"fixed": "2.36-9"}), ""),
        (record("glibc", EVER), "glibc 2.36-9 (libc-bin, libc6)"),
        (record("glibc", EVER, ecosystem="Debian:11"), ""),
        (record("glibc", EVER, ecosystem="Debian"), "glibc 2.36-9 (libc-bin, libc6)"),
        (record("glibc", EVER, ecosystem="Ubuntu:12"), ""),
        (record("libc6", EVER, {"fixed": "2.36-9+b2"}), "libc6 2.36-9+b1"),
        (record("libc6", EVER, {"fixed": "2.36-9+b1"}), ""),
        (record("libcap2", EVER, {"fixed": "2.99"}), ""),
        (record("odd", EVER, {"fixed": "1.0-1"}), "odd 1.0~rc1-1"),
        (record("odd", EVER, {"fixed": "<end-of-life>"}), "odd 1.0~rc1-1"),
        (record("glibc", EVER, withdrawn="2024-01-01T00:00:00Z"), ""),
    ],
)
def test_a_source_package_is_vulnerable_by_the_order_of_dpkg(known, found):
    """Records name sources and their versions, which need not be the package's; an epoch counts, and ~ is before the end."""
    (searched,) = search([known], [SystemPackages(lambda: IMAGE)])
    assert [each.package.told for each in searched.found] == ([found] if found else [])


@pytest.mark.parametrize(
    ("ecosystem", "is_of"),
    [("Ubuntu:22.04:LTS", True), ("Ubuntu:Pro:22.04:LTS", True), ("Ubuntu:22.10", False), ("Ubuntu:Pro:FIPS:22.04:LTS", False)],
)  # fmt: skip
def test_an_ubuntu_image_is_known_by_its_release(ecosystem, is_of):
    """The words beside the release say who gets updates; FIPS and the like have packages of their own."""
    assert SystemPackages(lambda: ImageSystem("", "ubuntu", "22.04", ())).is_of(ecosystem) is is_of


def test_a_known_vulnerability_of_the_distribution_stops(tmp_path):
    """One line names package, version, id and the fix, with the image as an approval has it; the table has each package."""
    known = record("glibc", EVER, {"fixed": "2.36-9+deb12u1"}, modified="2024-05-01T00:00:00Z")
    refused = checked(tmp_path, OURS, known)
    assert refused.stops and refused.observed == 1
    assert (
        "4 packages of debian 12 in image sha256:abababababab; known vulnerabilities of these: "
        "glibc 2.36-9 (libc-bin, libc6): DEBIAN-CVE-2099-1, fixed in 2.36-9+deb12u1; 1 record of Debian:12, the newest of 2024-05-01"
    ) in refused.reason
    assert [row[0] for row in refused.table.rows[-2:]] == ["libc6", "libc-bin"]
    assert refused.table.rows[-1][3] == "DEBIAN-CVE-2099-1"
    old = checked(
        tmp_path, OURS | {"modified": "2099-01-01T00:00:00Z"}, known, database_days=30, accepted=["DEBIAN-CVE-2099-1"]
    )
    assert old.stops and old.observed == 0 and old.reason.count("too old to tell") == 1


@pytest.mark.parametrize(
    ("accepted", "stops"), [(["CVE-2099-1"], True), (["CVE-2099-1", "CVE-2099-2"], False), (["DSA-1"], False)]
)
def test_who_accepts_accepts_all_that_a_notice_gathers(tmp_path, accepted, stops):
    """A notice about two vulnerabilities stops until both are accepted, or the notice by its own id."""
    for key in ("upstream", "aliases"):
        notice = record("glibc", EVER, number="DSA-1", **{key: ["CVE-2099-1", "CVE-2099-2"]})
        assert checked(tmp_path, OURS, notice, accepted=accepted).stops is stops


def test_what_nobody_can_mend_is_told(tmp_path):
    """What Debian calls unimportant is left out and counted; with `only_fixed` what has no fix yet stops nothing, and is counted too."""
    known = [OURS, record("glibc", EVER, urgency="unimportant"), record("odd", EVER, number="DEBIAN-CVE-2099-2")]
    refused = checked(tmp_path, *known)
    assert refused.stops and refused.observed == 1
    assert "odd 1.0~rc1-1: DEBIAN-CVE-2099-2; left out: 1 that its distribution calls unimportant" in refused.reason
    told = checked(tmp_path, *known, only_fixed=True)
    assert told.passed and "1 without a fix yet, which stop nothing (gates.supply_chain.only_fixed)" in told.reason


@pytest.mark.parametrize(
    ("served", "engine", "stops", "told"),
    [
        (RolloutError("deployer", "is away", "look"), "auto", True, "cannot be read (deployer: is away; look)"),
        (ServingSystem("docker", "docker 28", "sha256:ab"), "auto", True, "image sha256:ab has no list of packages of dpkg"),
        (ServingSystem("process", "process engine, as params.yaml says", ""), "process", False, "no image: process engine, as params.yaml says; the packages of the machine's system are not checked"),
        (ServingSystem("process", "process engine, because no Docker engine answers", ""), "auto", True, "no image whose packages can be read: process engine, because no Docker engine answers; mend that, or set rollout.engine: process"),
        (ServingSystem("docker", "docker 28", "", ImageSystem("", "debian", "13", PACKAGES)), "auto", True, "has records of Debian:12 and none of debian:13: download its export too"),
    ],
)  # fmt: skip
def test_what_cannot_be_checked_does_not_pass_in_silence(tmp_path, served, engine, stops, told):
    """A database with records of a distribution is there to be asked: where that is not possible the version stops; where no image serves, it is said."""
    verdict = checked(tmp_path, OURS, record("no-such", EVER), served=served, engine=engine)
    assert verdict.stops is stops and told in verdict.reason and "\n" not in verdict.reason


def test_without_records_of_a_distribution_nobody_is_asked(tmp_path):
    """The packages are listed and not checked, which the verdict says; a database that knows nothing of what serves lets no version pass."""
    told = checked(tmp_path, OURS, served=AssertionError("asked"))
    assert (
        told.passed
        and "are listed (sbom-image.json) and not checked: the database has no record of a distribution" in told.reason
    )
    assert checked(tmp_path, record("left-pad", EVER, ecosystem="npm"), served=AssertionError("asked")).stops
    other = checked(tmp_path, record("no-such", EVER))
    assert other.passed and "the Python packages are not checked" in other.reason


def test_a_folder_holds_an_export_of_each_ecosystem(tmp_path):
    """OSV's zips lie in it as they come, each in a folder of its ecosystem."""
    for folder, told in {"PyPI": OURS, "Debian": record("glibc", EVER)}.items():
        (tmp_path / "osv" / folder).mkdir(parents=True)
        with zipfile.ZipFile(tmp_path / "osv" / folder / "all.zip", "w") as archive:
            archive.writestr(f"{told['id']}.json", json.dumps(told))
    verdict = checked(tmp_path, vulnerabilities="osv")
    assert verdict.observed == 1 and "1 record of PyPI" in verdict.reason and "1 record of Debian:12" in verdict.reason


def test_licences_of_the_distribution_have_a_list_of_their_own(tmp_path):
    """They are named as the distribution does; a package whose file does not say is `unknown`; without the list nobody asks for them."""
    allowed = ["LGPL-2.1+", "gpl-2+ with link exception", "BSD-3-clause"]
    refused = checked(tmp_path, system_licences=allowed)
    assert refused.stops and refused.observed == 1
    assert refused.reason.endswith("not allowed (gates.supply_chain.system_licences): odd (unknown)")
    assert refused.table.rows[-1] == ("odd", "1.0~rc1-1", "unknown", "")
    assert checked(tmp_path, system_licences=[*allowed, "unknown"]).passed
    assert checked(tmp_path, licences=["unknown"], served=AssertionError("asked")).observed > 0


@pytest.mark.parametrize(
    ("licence", "allowed"),
    [
        ("GPL-2+ or MIT", True),
        ("GPL-2+ and MIT", False),
        ("GPL-2+ or MIT and GPL-2+", False),
        ("GPL-2+ or MIT, and ISC", True),
        ("GPL-2+ or ISC, and GPL-3", False),
        ("GPL-1+ and/or MIT", True),
        ("MIT with exception", False),
    ],
)
def test_a_debian_licence_is_read_as_its_format_says(licence, allowed):
    """`and` binds before `or`, and after a comma last."""
    assert is_allowed(licence, frozenset({"mit", "isc"})) is allowed
