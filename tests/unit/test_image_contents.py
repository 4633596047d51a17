"""What a serving image has of its distribution, as it is read from an image's files and kept with a version."""

from __future__ import annotations

import io
import tarfile

import pytest
from docker.errors import NotFound

from pipeline.gates.bill_of_materials import image_contents
from pipeline.rollout.engines import docker_contents

STATUS = """Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2.36-9+deb12u10
Description: GNU C Library
 Version: this line goes on

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1.0

Package: base-files
Status: install ok installed
Architecture: all
Version: 1:12.4
"""
RELEASE = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\nVERSION_ID="12"\n'


class Container:
    """A container with these files."""

    def __init__(self, files: dict[str, str]) -> None:
        self.files, self.image = files, type("Image", (), {"id": "sha256:ab"})

    def get_archive(self, path: str):
        if path not in self.files:
            raise NotFound(path)
        stream, content = io.BytesIO(), self.files[path].encode()
        with tarfile.open(fileobj=stream, mode="w") as archive:
            member = tarfile.TarInfo(path.rpartition("/")[2])
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        return [stream.getvalue()], {}


def test_the_packages_are_those_that_are_installed():
    """Removed packages, and lines that go on with the one before, are none; the distribution is named."""
    found = docker_contents.of(Container({docker_contents.STATUS: STATUS, docker_contents.RELEASE: RELEASE}))
    assert (found.image, found.distribution, found.release) == ("sha256:ab", "debian", "12")
    assert found.packages == (("base-files", "1:12.4", "all"), ("libc6", "2.36-9+deb12u10", "amd64"))


@pytest.mark.parametrize("files", [{}, {docker_contents.RELEASE: RELEASE}, {docker_contents.STATUS: STATUS}])
def test_an_image_without_a_distribution_has_no_list(files):
    """An image from scratch has neither file: nothing is listed rather than an empty list."""
    assert docker_contents.of(Container(files)) is None


def test_the_list_names_each_package_as_scanners_do():
    """A package URL has distribution, version and architecture; the same image has the same list."""
    packages = [("libc6", "2.36-9+deb12u10", "amd64"), ("libc6", "2.36-9+deb12u10", "i386")]
    listed = image_contents("churn", "3", "sha256:ab", "debian", "12", packages)
    assert [part.get("purl") for part in listed["components"]] == [
        "pkg:deb/debian/libc6@2.36-9%2Bdeb12u10?arch=amd64&distro=debian-12",
        "pkg:deb/debian/libc6@2.36-9%2Bdeb12u10?arch=i386&distro=debian-12",
        None,
    ]
    assert listed["metadata"]["component"] | {"type": "", "bom-ref": ""} == {
        "name": "churn",
        "version": "3",
        "type": "",
        "bom-ref": "",
    }
    assert listed == image_contents("churn", "3", "sha256:ab", "debian", "12", packages)
