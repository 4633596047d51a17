"""Slots as containers: one thin image a version on a ready base, without root, without the engine's socket.

The base image is built once from docker/serving; the packages of the server are laid beside it from
outside, because a build may have no way to an index.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import re
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.errors import RolloutError
from pipeline.rollout.engines import docker_network, elf, serving_image
from pipeline.rollout.engines.base import EngineSettings, EngineUnavailable, Running, Wanted, cut_off
from pipeline.serving.settings import VARIABLE

LOCAL_BASE = "perennial/base:bookworm"
PUBLIC_BASE = "python:3.11-slim-bookworm"
SERVER_USER = 10001
GRACE_S = 5
NETWORK = "perennial"
LABEL = "perennial"


class DockerEngine:
    name = "docker"

    def __init__(self, settings: EngineSettings, *, prepare: bool = True) -> None:
        """Raises EngineUnavailable when no engine answers or, with `prepare`, the base image cannot be had."""
        import docker
        from docker.errors import DockerException

        try:
            # mypy takes our own folder docker/ for the package.
            self._client: Any = docker.from_env(timeout=60)  # type: ignore[attr-defined]
            self.server_version = self._client.version()["Version"]
        except (DockerException, OSError) as error:
            raise EngineUnavailable(f"no Docker engine answers ({_reason(error)})") from error
        self._settings, self._home, self._project = settings, settings.home, settings.project
        namespace = settings.namespace or str(settings.home)
        self._home_id = hashlib.sha256(namespace.encode()).hexdigest()[:8]
        self._bases = {"onnx": self._serving_base("onnx")} if prepare else {}

    def start(self, wanted: Wanted) -> Running:
        from docker.errors import DockerException

        model, slot, version = wanted.model, wanted.slot, wanted.version
        if self._container(model, slot) is not None:
            raise RolloutError(f"slot {model} {slot}", "is taken", "stop it first")
        user = _give_log(wanted.log)
        name = self._name(model, slot)
        place = docker_network.placed(
            name, self._settings.network or self._network(), shared=bool(self._settings.network)
        )
        labels = {
            **self._labels(wanted),
            f"{LABEL}.home": self._home_id,
            f"{LABEL}.model": model,
            f"{LABEL}.slot": slot,
            f"{LABEL}.version": version,
            f"{LABEL}.address": place.address,
        }
        given = {"--version": version, "--slot": slot, "--drain": wanted.drain_s}
        try:
            self._client.containers.run(
                self._image(wanted),
                [*FIXED_ARGUMENTS, *(str(part) for pair in given.items() for part in pair)],
                name=name,
                detach=True,
                labels=labels,
                user=user,
                network=place.network,
                ports=place.ports,
                volumes={
                    docker_network.on_host(self._client, wanted.log, shared=bool(self._settings.network)): {
                        "bind": "/log",
                        "mode": "rw",
                    }
                },
                read_only=True,
                tmpfs={"/tmp": "size=16m"},
                cap_drop=["ALL"],
                security_opt=["no-new-privileges:true"],
                pids_limit=128,
                mem_limit=f"{wanted.memory_mb}m",
                nano_cpus=int(wanted.cpus * 1e9),
                environment={VARIABLE: wanted.serving},
                init=True,
                restart_policy={"Name": "unless-stopped"},
                log_config={"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}},
            )
        except DockerException as error:
            self.stop(model, slot, 0)
            raise RolloutError(
                f"slot {model} {slot}", f"docker did not start it ({_reason(error)})", "look at `docker info`"
            ) from error
        return Running(model, slot, version, labels[f"{LABEL}.address"], self.name)

    def find(self, model: str, slot: str) -> Running | None:
        with _answering():
            container = self._container(model, slot)
        return _running(container) if container is not None and container.status == "running" else None

    def stop(self, model: str, slot: str, drain_s: float) -> int | None:
        with _answering():
            container = self._container(model, slot)
            if container is None:
                return 0
            container.stop(timeout=math.ceil(drain_s) + GRACE_S)
            said = container.logs(tail=3).decode(errors="replace")
            container.remove(force=True)
        return cut_off(said)

    def output(self, model: str, slot: str) -> str:
        with _answering():
            container = self._container(model, slot)
            text = container.logs(tail=3).decode(errors="replace") if container is not None else ""
        return " | ".join(text.strip().splitlines())

    def all(self) -> list[Running]:
        ours = {"label": f"{LABEL}.home={self._home_id}"}
        with _answering():
            return [_running(c) for c in self._client.containers.list(filters=ours)]

    def _container(self, model: str, slot: str) -> Any:
        from docker.errors import NotFound

        try:
            return self._client.containers.get(self._name(model, slot))
        except NotFound:
            return None

    def _name(self, model: str, slot: str) -> str:
        return f"perennial-{self._home_id}-{model}-{slot}"

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
                        raise RolloutError(f"image {image.id}", _reason(error), "look at `docker images`") from error

    def leave(self) -> None:
        from docker.errors import APIError, NotFound

        # An engine has addresses for some thirty networks.
        with _answering():
            try:
                self._client.networks.get(f"{NETWORK}-{self._home_id}").remove()
            except NotFound:
                return
            except APIError as error:
                if error.status_code != 403:  # a slot that another process starts now is in it
                    raise

    def _network(self) -> str:
        """A bridge of this home's slots alone: they see neither other containers nor each other's ports by name."""
        from docker.errors import APIError, NotFound

        name = f"{NETWORK}-{self._home_id}"
        try:
            self._client.networks.get(name)
        except NotFound:
            try:
                labels = {f"{LABEL}.home": self._home_id}
                options = {"com.docker.network.bridge.enable_icc": "false"}
                self._client.networks.create(name, driver="bridge", labels=labels, options=options)
            except APIError as error:
                if error.status_code != 409:
                    raise
        return name

    def _labels(self, wanted: Wanted) -> dict[str, str]:
        """By the OCI image specification's convention, and ours to find it again."""
        named = "org.opencontainers.image"
        return {
            f"{named}.title": wanted.model,
            f"{named}.version": wanted.version,
            f"{named}.revision": wanted.code_revision,
            f"{named}.base.name": self._base_for(wanted),
            f"{named}.vendor": "Perennial",
            f"{LABEL}.manifest": _manifest_digest(wanted),
            f"{LABEL}.image": f"{self._home_id}-{wanted.model}",
        }

    def _image(self, wanted: Wanted) -> str:
        """The id of the image of one version: the serving base plus the package, from a tar in memory."""
        files = {f"package/{f.name}": f.read_bytes() for f in sorted(wanted.package.iterdir())}
        files["Dockerfile"] = f"FROM {self._base_for(wanted)}\nCOPY --chown=0:0 package /package\n".encode()
        tag = f"perennial/{wanted.model}:v{wanted.version}-{_manifest_digest(wanted)[:12]}"
        return self._build(_tar(files), tag, self._labels(wanted), {})

    def _base_for(self, wanted: Wanted) -> str:
        """The image that the package's runtime takes. Raises RolloutError when it cannot be had."""
        if wanted.runtime not in self._bases:
            try:
                self._bases[wanted.runtime] = self._serving_base(wanted.runtime)
            except EngineUnavailable as error:
                subject = f"slot {wanted.model} {wanted.slot}"
                raise RolloutError(subject, str(error), "look at docker/serving") from error
        return self._bases[wanted.runtime]

    def _serving_base(self, runtime: str) -> str:
        """The image with the server and a runtime's packages: the one that is pinned, else the one of this code, which is
        built when it is not there."""
        from docker.errors import DockerException, ImageNotFound

        if pins := self._settings.serving_images:
            return self._pinned(runtime, pins)
        server = sorted((self._project / "pipeline" / "serving").glob("*.py"))
        recipe = [
            self._project / "docker" / "serving" / "Dockerfile",
            self._project / "requirements" / PACKAGES[runtime],
        ]
        parts = [*recipe, self._project / "pipeline" / "__init__.py", *server]
        # What is left out is part of the recipe too.
        content = b"".join(
            p.read_bytes() for p in (*parts, Path(elf.__file__), Path(serving_image.__file__), Path(__file__))
        )
        tag = f"perennial/serving-{runtime}:{hashlib.sha256(content).hexdigest()[:16]}"
        try:
            self._client.images.get(tag)
            return tag
        except ImageNotFound:
            pass
        try:
            base = self._base_image()
            files = {str(p.relative_to(self._project)): p.read_bytes() for p in parts[2:]}
            files["Dockerfile"] = recipe[0].read_bytes()
            with tempfile.TemporaryDirectory() as aside:
                folder = Path(aside) / "site-packages"
                serving_image.lay(recipe[1], folder, runtime)
                self._build(_tar(files, folder), tag, {}, {"BASE_IMAGE": base})
        except (DockerException, OSError, RolloutError) as error:
            raise EngineUnavailable(f"its serving image cannot be built ({_reason(error)})") from error
        return tag

    def _pinned(self, runtime: str, pins: str) -> str:
        """The serving image by its digest; `pins` are written `onnx=sha256:…,skops=sha256:…`."""
        from docker.errors import DockerException

        pinned = dict(one.split("=", 1) for one in pins.split(",") if "=" in one).get(runtime, "")
        if not re.fullmatch(r"sha256:[0-9a-f]{64}", pinned):
            raise EngineUnavailable(f"no serving image is pinned for {runtime} in PERENNIAL_SERVING_IMAGES")
        try:
            return self._client.images.get(pinned).id
        except DockerException as error:
            raise EngineUnavailable(f"the pinned serving image {pinned} is not there ({_reason(error)})") from error

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
            raise EngineUnavailable(f"it cannot get the base image {PUBLIC_BASE} ({_reason(error)})") from error
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


# By runtime: what goes into its image.
PACKAGES = {"onnx": "serving.txt", "skops": "serving-skops.txt"}
FIXED_ARGUMENTS = ("--package", "/package", "--host", "0.0.0.0", "--log", "/log")


@contextmanager
def _answering() -> Iterator[None]:
    """Raises RolloutError when the engine went away since it was found."""
    import requests
    from docker.errors import DockerException

    try:
        yield
    except (DockerException, requests.RequestException) as error:
        raise RolloutError("docker engine", f"does not answer ({_reason(error)})", "look at `docker info`") from error


def serving_images(project: Path) -> str:
    """Builds the serving images of this code and pins them by digest, as PERENNIAL_SERVING_IMAGES takes them.

    Raises EngineUnavailable.
    """
    engine = DockerEngine(EngineSettings(project, project))
    bases = {runtime: engine._serving_base(runtime) for runtime in PACKAGES}
    return ",".join(f"{runtime}={engine._client.images.get(tag).id}" for runtime, tag in bases.items())


def has_volume(name: str) -> bool:
    """Whether the engine has a volume of that name. Raises EngineUnavailable."""
    engine = DockerEngine(EngineSettings(Path(), Path()), prepare=False)
    return any(volume.name == name for volume in engine._client.volumes.list(filters={"name": name}))


def _manifest_digest(wanted: Wanted) -> str:
    return hashlib.sha256((wanted.package / "manifest.json").read_bytes()).hexdigest()


def _running(container: Any) -> Running:
    told = container.labels
    return Running(
        told[f"{LABEL}.model"],
        told[f"{LABEL}.slot"],
        told[f"{LABEL}.version"],
        told[f"{LABEL}.address"],
        DockerEngine.name,
    )


def _give_log(folder: Path) -> str:
    """Makes the log folder writable for the container's user, who is never root, and returns that user."""
    folder.mkdir(parents=True, exist_ok=True)
    if os.getuid() == 0:
        os.chown(folder, SERVER_USER, SERVER_USER)
        return f"{SERVER_USER}:{SERVER_USER}"
    return f"{os.getuid()}:{os.getgid()}"


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


def _reason(error: Exception) -> str:
    """The cause of an error in one line: an engine that is not there hides it three exceptions deep."""
    while error.__cause__ is not None or error.__context__ is not None:
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return " ".join(str(getattr(error, "explanation", None) or error).split())[-200:]
