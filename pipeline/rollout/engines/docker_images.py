"""The images of the docker engine: a serving image for each runtime, and on it a thin image for each version.

The serving image is built once from docker/serving. Its packages are installed outside and copied into the build, because
a build may have no access to a package index.
"""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from pipeline.errors import RolloutError
from pipeline.rollout.engines import serving_image, serving_recipe
from pipeline.rollout.engines.base import EngineSettings, EngineUnavailable, SlotSpec

LOCAL_BASE = "perennial/base:bookworm"
PUBLIC_BASE = "python:3.11-slim-bookworm"
LABEL = "perennial"


class DockerImages:
    """The images of one home, in the Docker engine of `client`."""

    def __init__(self, client: Any, settings: EngineSettings, home_id: str) -> None:
        self._client, self._settings, self._home_id = client, settings, home_id
        self._bases: dict[str, str] = {}

    def prepare(self, runtime: str) -> None:
        """Finds or builds the serving image of a runtime. Raises EngineUnavailable."""
        self._bases[runtime] = self.serving_base(runtime)

    def prune(self, model: str, keep: set[str]) -> None:
        """Removes the model's images of all versions but `keep`."""
        from docker.errors import APIError

        for image in self._client.images.list(filters={"label": [f"{LABEL}.image={self._home_id}-{model}"]}):
            if image.labels.get("org.opencontainers.image.version") not in keep:
                try:
                    self._client.images.remove(image.id, force=True)
                except APIError as error:
                    # 409: a container still uses it; 404: another pruned it first.
                    if error.status_code not in (404, 409):
                        raise RolloutError(f"image {image.id}", reason_of(error), "look at `docker images`") from error

    def labels(self, spec: SlotSpec) -> dict[str, str]:
        """The labels of the OCI image specification, and our own, by which images are found."""
        named = "org.opencontainers.image"
        return {
            f"{named}.title": spec.model,
            f"{named}.version": spec.version,
            f"{named}.revision": spec.code_revision,
            f"{named}.base.name": self._base_for(spec),
            f"{named}.vendor": "Perennial",
            f"{LABEL}.manifest": _manifest_digest(spec),
            f"{LABEL}.image": f"{self._home_id}-{spec.model}",
        }

    def image_of(self, spec: SlotSpec) -> str:
        """The id of a version's image, which is built from a tar in memory: the serving image with the package."""
        files = {f"package/{f.name}": f.read_bytes() for f in sorted(spec.package.iterdir())}
        files["Dockerfile"] = f"FROM {self._base_for(spec)}\nCOPY --chown=0:0 package /package\n".encode()
        tag = f"perennial/{spec.model}:v{spec.version}-{_manifest_digest(spec)[:12]}"
        return self._build(_tar(files), tag, self.labels(spec), {})

    def kept(self, runtime: str, digest: str) -> str | None:
        """The id of the serving image with that digest: its own, or that of the recipe it was built by; None when it is gone."""
        from docker.errors import ImageNotFound

        for name in (digest, _tag(runtime, digest.rpartition(":")[2])):
            try:
                return self._client.images.get(name).id
            except ImageNotFound:
                continue
        return None

    def _base_for(self, spec: SlotSpec) -> str:
        """The serving image that the spec names, or else that of the package's runtime. Raises RolloutError when there is none."""
        if spec.image:
            if (kept := self.kept(spec.runtime, spec.image)) is None:
                observed = f"its serving image {spec.image} is no longer in this engine"
                raise RolloutError(f"slot {spec.model} {spec.slot}", observed, "look at `docker images`")
            return kept
        if spec.runtime not in self._bases:
            try:
                self._bases[spec.runtime] = self.serving_base(spec.runtime)
            except EngineUnavailable as error:
                subject = f"slot {spec.model} {spec.slot}"
                raise RolloutError(subject, str(error), "look at docker/serving") from error
        return self._bases[spec.runtime]

    def serving_base(self, runtime: str) -> str:
        """The image with the server and a runtime's packages: the pinned one, else this code's, which is built when it is missing."""
        from docker.errors import DockerException, ImageNotFound

        if pins := self._settings.serving_images:
            return self._pinned(runtime, pins)
        project = self._settings.project
        recipe = serving_recipe.recipe(project, runtime)
        tag = _tag(runtime, serving_recipe.recipe_digest(project, runtime))
        try:
            self._client.images.get(tag)
            return tag
        except ImageNotFound:
            pass
        try:
            base = self._base_image()
            files = {str(p.relative_to(project)): p.read_bytes() for p in serving_recipe.server(project)}
            files["Dockerfile"] = recipe[0].read_bytes()
            with tempfile.TemporaryDirectory() as aside:
                folder = Path(aside) / "site-packages"
                serving_image.install_packages(recipe[1], folder, runtime)
                self._build(_tar(files, folder), tag, {}, {"BASE_IMAGE": base})
        except (DockerException, OSError, RolloutError) as error:
            raise EngineUnavailable(f"its serving image cannot be built ({reason_of(error)})") from error
        return tag

    def _pinned(self, runtime: str, pins: str) -> str:
        """The serving image by its digest, from `pins` like `onnx=sha256:…,skops=sha256:…`."""
        from docker.errors import DockerException

        pinned = serving_recipe.pinned(runtime, pins)
        if not re.fullmatch(r"sha256:[0-9a-f]{64}", pinned):
            raise EngineUnavailable(f"no serving image is pinned for {runtime} in PERENNIAL_SERVING_IMAGES")
        try:
            image = self._client.images.get(pinned)
            if not image.tags:
                # With its last version's image an engine removes an image that has no tag.
                image.tag(*_tag(runtime, image.id.rpartition(":")[2]).split(":"))
            return image.id
        except DockerException as error:
            raise EngineUnavailable(f"the pinned serving image {pinned} is not there ({reason_of(error)})") from error

    def _base_image(self) -> str:
        from docker.errors import DockerException, ImageNotFound

        for name in filter(None, (self._settings.base_image, LOCAL_BASE, PUBLIC_BASE)):
            try:
                self._client.images.get(name)
                return name
            except ImageNotFound:
                continue
        try:
            self._client.images.pull(PUBLIC_BASE)
        except DockerException as error:
            raise EngineUnavailable(f"it cannot get the base image {PUBLIC_BASE} ({reason_of(error)})") from error
        return PUBLIC_BASE

    def _build(self, context: io.BytesIO, tag: str, labels: dict[str, str], arguments: dict[str, str]) -> str:
        from docker.errors import BuildError

        try:
            image, _ = self._client.images.build(
                fileobj=context,
                custom_context=True,
                tag=tag,
                labels=labels,
                buildargs=arguments,
                rm=True,
                forcerm=True,
                network_mode="none",
            )
        except BuildError as error:
            raise RolloutError(f"image {tag}", f"does not build ({error.msg})", "look at docker/serving") from error
        return image.id

    def pins(self) -> str:
        """The digests of all serving images, as PERENNIAL_SERVING_IMAGES takes them. Raises EngineUnavailable."""
        tags = {runtime: self.serving_base(runtime) for runtime in serving_recipe.PACKAGES}
        return ",".join(f"{runtime}={self._client.images.get(tag).id}" for runtime, tag in tags.items())


def _tag(runtime: str, digest: str) -> str:
    """The name of a serving image: by its recipe's digest, or its own where it came without a name."""
    return f"perennial/serving-{runtime}:{digest[:16]}"


def _manifest_digest(spec: SlotSpec) -> str:
    return hashlib.sha256((spec.package / "manifest.json").read_bytes()).hexdigest()


def _tar(files: dict[str, bytes], packages: Path | None = None) -> io.BytesIO:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o644
            archive.addfile(member, io.BytesIO(content))
        if packages is not None:
            archive.add(packages, "site-packages")
    out.seek(0)
    return out


def reason_of(error: Exception) -> str:
    """The cause of an error in one line: docker's client wraps a missing engine in three exceptions."""
    while error.__cause__ is not None or error.__context__ is not None:
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return " ".join(str(getattr(error, "explanation", None) or error).split())[-200:]
