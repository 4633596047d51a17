"""Slots as containers, without root and without the engine's socket: a thin image for each version, on a serving image.

The serving image is built once from docker/serving. Its packages are installed outside and copied into the build, because
a build may have no access to a package index.
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
from pipeline.rollout.engines.base import EngineSettings, EngineUnavailable, Running, SlotSpec, cut_off
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
        """Raises EngineUnavailable when no engine answers or, with `prepare`, the serving image cannot be built."""
        import docker
        from docker.errors import DockerException

        try:
            # mypy mistakes our folder docker/ for the package.
            self._client: Any = docker.from_env(timeout=60)  # type: ignore[attr-defined]
            self.server_version = self._client.version()["Version"]
        except (DockerException, OSError) as error:
            raise EngineUnavailable(f"no Docker engine answers ({_reason(error)})") from error
        self._settings, self._home, self._project = settings, settings.home, settings.project
        namespace = settings.namespace or str(settings.home)
        self._home_id = hashlib.sha256(namespace.encode()).hexdigest()[:8]
        self._bases = {"onnx": self._serving_base("onnx")} if prepare else {}

    def start(self, spec: SlotSpec) -> Running:
        from docker.errors import DockerException

        model, slot, version = spec.model, spec.slot, spec.version
        if self._container(model, slot) is not None:
            raise RolloutError(f"slot {model} {slot}", "is taken", "stop it first")
        user = _give_log(spec.log)
        name = self._name(model, slot)
        place = docker_network.placement(
            name, self._settings.network or self._network(), shared=bool(self._settings.network)
        )
        labels = {
            **self._labels(spec),
            f"{LABEL}.home": self._home_id,
            f"{LABEL}.model": model,
            f"{LABEL}.slot": slot,
            f"{LABEL}.version": version,
            f"{LABEL}.address": place.address,
        }
        options = {"--version": version, "--slot": slot, "--drain": spec.drain_s}
        try:
            self._client.containers.run(
                self._image(spec),
                [*FIXED_ARGUMENTS, *(str(part) for pair in options.items() for part in pair)],
                name=name,
                detach=True,
                labels=labels,
                user=user,
                network=place.network,
                ports=place.ports,
                volumes={
                    docker_network.on_host(self._client, spec.log, shared=bool(self._settings.network)): {
                        "bind": "/log",
                        "mode": "rw",
                    }
                },
                read_only=True,
                tmpfs={"/tmp": "size=16m"},
                cap_drop=["ALL"],
                security_opt=["no-new-privileges:true"],
                pids_limit=128,
                mem_limit=f"{spec.memory_mb}m",
                nano_cpus=int(spec.cpus * 1e9),
                environment={VARIABLE: spec.serving},
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
            output = container.logs(tail=3).decode(errors="replace")
            container.remove(force=True)
        return cut_off(output)

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

    def clean_up(self) -> None:
        from docker.errors import APIError, NotFound

        # An engine has addresses for about thirty networks.
        with _answering():
            try:
                self._client.networks.get(f"{NETWORK}-{self._home_id}").remove()
            except NotFound:
                return
            except APIError as error:
                if error.status_code != 403:  # a slot that another process is starting uses it
                    raise

    def _network(self) -> str:
        """The name of this home's bridge, on which slots reach neither other containers nor each other."""
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

    def _labels(self, spec: SlotSpec) -> dict[str, str]:
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

    def _image(self, spec: SlotSpec) -> str:
        """The id of a version's image, which is built from a tar in memory: the serving image with the package."""
        files = {f"package/{f.name}": f.read_bytes() for f in sorted(spec.package.iterdir())}
        files["Dockerfile"] = f"FROM {self._base_for(spec)}\nCOPY --chown=0:0 package /package\n".encode()
        tag = f"perennial/{spec.model}:v{spec.version}-{_manifest_digest(spec)[:12]}"
        return self._build(_tar(files), tag, self._labels(spec), {})

    def _base_for(self, spec: SlotSpec) -> str:
        """The serving image of the package's runtime. Raises RolloutError when it cannot be built."""
        if spec.runtime not in self._bases:
            try:
                self._bases[spec.runtime] = self._serving_base(spec.runtime)
            except EngineUnavailable as error:
                subject = f"slot {spec.model} {spec.slot}"
                raise RolloutError(subject, str(error), "look at docker/serving") from error
        return self._bases[spec.runtime]

    def _serving_base(self, runtime: str) -> str:
        """The image with the server and a runtime's packages: the pinned one, else this code's, which is built when it is missing."""
        from docker.errors import DockerException, ImageNotFound

        if pins := self._settings.serving_images:
            return self._pinned(runtime, pins)
        server = sorted((self._project / "pipeline" / "serving").glob("*.py"))
        recipe = [
            self._project / "docker" / "serving" / "Dockerfile",
            self._project / "requirements" / PACKAGES[runtime],
        ]
        parts = [*recipe, self._project / "pipeline" / "__init__.py", *server]
        # The code that builds the image decides what is left out of it, so it is part of the tag.
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
                serving_image.install_packages(recipe[1], folder, runtime)
                self._build(_tar(files, folder), tag, {}, {"BASE_IMAGE": base})
        except (DockerException, OSError, RolloutError) as error:
            raise EngineUnavailable(f"its serving image cannot be built ({_reason(error)})") from error
        return tag

    def _pinned(self, runtime: str, pins: str) -> str:
        """The serving image by its digest, from `pins` like `onnx=sha256:…,skops=sha256:…`."""
        from docker.errors import DockerException

        pinned = dict(pin.split("=", 1) for pin in pins.split(",") if "=" in pin).get(runtime, "")
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


# The requirements of each runtime's image.
PACKAGES = {"onnx": "serving.txt", "skops": "serving-skops.txt"}
FIXED_ARGUMENTS = ("--package", "/package", "--host", "0.0.0.0", "--log", "/log")


@contextmanager
def _answering() -> Iterator[None]:
    """Raises RolloutError when the engine no longer answers."""
    import requests
    from docker.errors import DockerException

    try:
        yield
    except (DockerException, requests.RequestException) as error:
        raise RolloutError("docker engine", f"does not answer ({_reason(error)})", "look at `docker info`") from error


def serving_images(project: Path) -> str:
    """Builds the serving images of this code; returns their digests as PERENNIAL_SERVING_IMAGES takes them.

    Raises EngineUnavailable.
    """
    engine = DockerEngine(EngineSettings(project, project))
    bases = {runtime: engine._serving_base(runtime) for runtime in PACKAGES}
    return ",".join(f"{runtime}={engine._client.images.get(tag).id}" for runtime, tag in bases.items())


def has_volume(name: str) -> bool:
    """Whether the Docker engine has a volume of that name. Raises EngineUnavailable."""
    engine = DockerEngine(EngineSettings(Path(), Path()), prepare=False)
    return any(volume.name == name for volume in engine._client.volumes.list(filters={"name": name}))


def _manifest_digest(spec: SlotSpec) -> str:
    return hashlib.sha256((spec.package / "manifest.json").read_bytes()).hexdigest()


def _running(container: Any) -> Running:
    labels = container.labels
    return Running(
        labels[f"{LABEL}.model"],
        labels[f"{LABEL}.slot"],
        labels[f"{LABEL}.version"],
        labels[f"{LABEL}.address"],
        DockerEngine.name,
    )


def _give_log(folder: Path) -> str:
    """Makes the log folder writable for the container's user, which is never root; returns that user."""
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
    """The cause of an error in one line: docker's client wraps a missing engine in three exceptions."""
    while error.__cause__ is not None or error.__context__ is not None:
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return " ".join(str(getattr(error, "explanation", None) or error).split())[-200:]
