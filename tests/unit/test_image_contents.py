"""What a serving image has of its distribution, as it is read from an image's files and kept with a version."""

from __future__ import annotations

import io
import json
import tarfile

import pytest
from docker.errors import NotFound

from pipeline.gates.bill_of_materials import image_contents
from pipeline.gates.image_system import ImageSystem, ServingSystem, SystemPackage
from pipeline.rollout.engines import docker_contents
from pipeline.rollout.engines.debian_copyright import licences

STATUS = """Package: libc6
Status: install ok installed
Architecture: amd64
Source: glibc (2.36-9)
Version: 2.36-9+b1
Description: GNU C Library
 Version: this line goes on

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1.0

Package: libcudnn8
Status: hold ok installed
Architecture: amd64
Source: cudnn
Version: 8.9

Package: base-files
Status: install ok installed
Architecture: all
Version: 1:12.4
"""
RELEASE = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\nVERSION_ID="12"\n'
DEP5 = """Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
License: LGPL-2.1+

Files: *
Copyright: 1991 somebody
License: LGPL-2.1+
 The text of the licence.

Files: scripts/*
License: GPL-2+ with
 exception

License: Only-Its-Text
 Files: no file has it
"""
FOUND = (
    SystemPackage("base-files", "1:12.4", "all"),
    SystemPackage("libc6", "2.36-9+b1", "amd64", "glibc", "2.36-9"),
    SystemPackage("libcudnn8", "8.9", "amd64", "cudnn"),
)


class Container:
    """A container with these files; a value that begins with -> is a link."""

    def __init__(self, files: dict[str, str]) -> None:
        self.files, self.image = files, type("Image", (), {"id": "sha256:ab"})

    def get_archive(self, path: str):
        found = {name: text for name, text in self.files.items() if name == path or name.startswith(f"{path}/")}
        if not found:
            raise NotFound(path)
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as archive:
            for name, text in found.items():
                member = tarfile.TarInfo(name.removeprefix(path.rpartition("/")[0]).lstrip("/"))
                if text.startswith("->"):
                    member.type, member.linkname = tarfile.SYMTYPE, text[2:]
                member.size = 0 if text.startswith("->") else len(text.encode())
                archive.addfile(member, io.BytesIO(text.encode()))
        whole = stream.getvalue()
        return [whole[at : at + 1000] for at in range(0, len(whole), 1000)], {}


def test_the_packages_are_those_that_are_installed():
    """Removed packages, and lines that go on with the one before, are none; one that is held is; the source has its own version."""
    found = docker_contents.of(Container({docker_contents.STATUS: STATUS, docker_contents.RELEASE: RELEASE}))
    assert found == ImageSystem("sha256:ab", "debian", "12", FOUND)
    assert [each.built_from for each in found.packages] == [
        ("base-files", "1:12.4"),
        ("glibc", "2.36-9"),
        ("cudnn", "8.9"),
    ]


def test_licences_are_those_of_the_file_that_each_package_leads_to():
    """A folder or a file may be a link to another package's, also an absolute one; a text for people names none, and so does a circle."""
    doc = docker_contents.DOCUMENTS
    files = {
        docker_contents.STATUS: STATUS,
        docker_contents.RELEASE: RELEASE,
        f"{doc}/base-files/copyright": f"->{doc}/real/copyright",
        f"{doc}/libc6": "->real",
        f"{doc}/real/copyright": DEP5,
        f"{doc}/real/changelog": "",
        f"{doc}/libcudnn8": "->libcudnn8",
    }
    found = docker_contents.of(Container(files))
    assert [each.licences for each in found.packages] == [
        ("LGPL-2.1+", "GPL-2+ with"),
        ("LGPL-2.1+", "GPL-2+ with"),
        (),
    ]
    assert licences("This package was debianized by hand. License: GPL") == ()


@pytest.mark.parametrize("files", [{}, {docker_contents.RELEASE: RELEASE}, {docker_contents.STATUS: STATUS}])
def test_an_image_without_a_distribution_has_no_list(files):
    """An image from scratch has neither file: nothing is listed rather than an empty list."""
    assert docker_contents.of(Container(files)) is None


def test_the_list_names_each_package_as_scanners_do():
    """A package URL has distribution, version, architecture and the source where that is another; licences have the distribution's names."""
    packages = (
        SystemPackage("libc6", "2.36-9+b1", "amd64", "glibc", "2.36-9", ("LGPL-2.1+", "GPL-2+ with link exception")),
        SystemPackage("zlib1g", "1:1.2", "i386", "zlib1g"),
    )
    system = ImageSystem("sha256:ab", "debian", "12", packages)
    listed = image_contents("churn", "3", system)
    assert [part.get("purl") for part in listed["components"]] == [
        "pkg:deb/debian/libc6@2.36-9%2Bb1?arch=amd64&distro=debian-12&upstream=glibc%402.36-9",
        "pkg:deb/debian/zlib1g@1:1.2?arch=i386&distro=debian-12",
        None,
    ]
    assert [each["license"]["name"] for each in listed["components"][0]["licenses"]] == [
        "GPL-2+ with link exception",
        "LGPL-2.1+",
    ]
    assert listed["metadata"]["component"] | {"type": "", "bom-ref": ""} == {
        "name": "churn",
        "version": "3",
        "type": "",
        "bom-ref": "",
    }
    assert listed == image_contents("churn", "3", system)


def test_what_serves_goes_through_json():
    """The deployer answers over HTTP: what is read back is what was sent, with and without an image."""
    for system in (ImageSystem("sha256:ab", "debian", "12", FOUND), None):
        serving = ServingSystem("docker", "docker engine 28", "sha256:cd", system)
        assert ServingSystem.read(json.loads(json.dumps(serving.as_dict()))) == serving
