"""Slots as containers, without root, without capabilities and without the engine's socket."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from pipeline.errors import RolloutError
from pipeline.gates.image_system import ImageSystem
from pipeline.rollout.engines import docker_contents, docker_network, slot_settings
from pipeline.rollout.engines.base import EngineSettings, EngineUnavailable, Running, SlotSpec, cut_off
from pipeline.rollout.engines.docker_images import LABEL, DockerImages, reason_of
from pipeline.serving import log_files
from pipeline.serving.settings import VARIABLE

SERVER_USER = 10001
GRACE_S = 5
NETWORK = "perennial"
FIXED_ARGUMENTS = ("--package", "/package", "--host", "0.0.0.0", "--log", "/log")
SETTINGS = "/settings.json"
# Options of every slot's container: it has no rights, and it is started again after a crash or with the engine.
CONFINED: dict[str, Any] = {
    "detach": True,
    "read_only": True,
    "tmpfs": {"/tmp": "size=16m"},
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges:true"],
    "pids_limit": 128,
    "init": True,
    "restart_policy": {"Name": "unless-stopped"},
    "log_config": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}},
}


class DockerEngine:
    """Runs a slot as a container of the serving image, without privileges; its labels say home, model, slot and
    version."""

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
            raise EngineUnavailable(f"no Docker engine answers ({reason_of(error)})") from error
        self._settings = settings
        self._home_id = home_id(settings)
        self.images = DockerImages(self._client, settings, self._home_id)
        if prepare:
            self.images.prepare("onnx")

    def start(self, spec: SlotSpec) -> Running:
        from docker.errors import DockerException

        model, slot, version = spec.model, spec.slot, spec.version
        if self._container(model, slot) is not None:
            raise RolloutError(f"slot {model} {slot}", "is taken", "stop it first")
        user = _give_log(spec.log)
        name, shared = self._name(model, slot), bool(self._settings.network)
        place = docker_network.placement(name, self._settings.network or self._network(), shared=shared)
        options = {"--version": version, "--slot": slot, "--drain": spec.drain_s}
        try:
            log = docker_network.on_host(self._client, spec.log, shared=shared)
            settings_file = self._settings_file(model, slot)
            slot_settings.write(settings_file, spec.serving, SERVER_USER if os.getuid() == 0 else None)
            settings = docker_network.on_host(self._client, settings_file, shared=shared)
            self._client.containers.run(
                self.images.image_of(spec),
                [*FIXED_ARGUMENTS, *(str(part) for pair in options.items() for part in pair)],
                name=name,
                labels=self._labels(spec, place.address),
                user=user,
                network=place.network,
                ports=place.ports,
                volumes={log: {"bind": "/log", "mode": "rw"}, settings: {"bind": SETTINGS, "mode": "ro"}},
                mem_limit=f"{spec.memory_mb}m",
                nano_cpus=int(spec.cpus * 1e9),
                environment={VARIABLE: SETTINGS},
                **CONFINED,
            )
        except DockerException as error:
            self.stop(model, slot, 0)
            raise RolloutError(
                f"slot {model} {slot}", f"docker did not start it ({reason_of(error)})", "look at `docker info`"
            ) from error
        return Running(model, slot, version, place.address, self.name)

    def _settings_file(self, model: str, slot: str) -> Path:
        return slot_settings.path_of(self._settings.home, self.name, model, slot)

    def _labels(self, spec: SlotSpec, address: str) -> dict[str, str]:
        """The image's labels, and those by which the slot is found again."""
        return {
            **self.images.labels(spec),
            f"{LABEL}.home": self._home_id,
            f"{LABEL}.model": spec.model,
            f"{LABEL}.slot": spec.slot,
            f"{LABEL}.version": spec.version,
            f"{LABEL}.address": address,
        }

    def has_image(self, runtime: str, digest: str) -> bool:
        with _answering():
            return self.images.kept(runtime, digest) is not None

    def contents(self, model: str, slot: str) -> ImageSystem | None:
        with _answering():
            container = self._container(model, slot)
            return docker_contents.of(container) if container is not None else None

    def system(self, runtime: str) -> ImageSystem | None:
        try:
            image = self.images.serving_base(runtime)
        except EngineUnavailable as error:
            raise RolloutError(f"serving image for {runtime}", str(error), "look at docker/serving") from error
        with _answering():
            # An image has no files for who asks until there is a container of it, which need not be started.
            container = self._client.containers.create(image, network_mode="none")
            try:
                return docker_contents.of(container)
            finally:
                container.remove(force=True)

    def prune(self, model: str, keep: set[str]) -> None:
        """Removes the model's images of all versions but `keep`."""
        self.images.prune(model, keep)

    def find(self, model: str, slot: str) -> Running | None:
        with _answering():
            container = self._container(model, slot)
        return _running(container) if container is not None and container.status == "running" else None

    def stop(self, model: str, slot: str, drain_s: float) -> int | None:
        with _answering():
            container = self._container(model, slot)
            if container is None:
                self._settings_file(model, slot).unlink(missing_ok=True)
                return 0
            container.stop(timeout=math.ceil(drain_s) + GRACE_S)
            output = container.logs(tail=3).decode(errors="replace")
            container.remove(force=True)
        self._settings_file(model, slot).unlink(missing_ok=True)
        return cut_off(output)

    def output(self, model: str, slot: str) -> str:
        with _answering():
            container = self._container(model, slot)
            text = container.logs(tail=3).decode(errors="replace") if container is not None else ""
        return " | ".join(text.strip().splitlines())

    def output_until(self, container: str, at: datetime) -> str:
        """The last lines that a container, which may run again, had printed at that time; '' when it is gone."""
        from docker.errors import NotFound

        with _answering():
            try:
                text = self._client.containers.get(container).logs(tail=3, until=at.timestamp())
            except NotFound:
                return ""
        return " | ".join(text.decode(errors="replace").strip().splitlines())

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
        return docker_network.container_name(self._home_id, model, slot, shared=bool(self._settings.network))

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


@contextmanager
def _answering() -> Iterator[None]:
    """Raises RolloutError when the engine no longer answers."""
    import requests
    from docker.errors import DockerException

    try:
        yield
    except (DockerException, requests.RequestException) as error:
        raise RolloutError("docker engine", f"does not answer ({reason_of(error)})", "look at `docker info`") from error


def serving_images(project: Path) -> str:
    """Builds the serving images of this code; returns their digests as PERENNIAL_SERVING_IMAGES takes them.

    Raises EngineUnavailable.
    """
    return DockerEngine(EngineSettings(project, project)).images.pins()


def home_id(settings: EngineSettings) -> str:
    """The mark of this home's containers, images and network."""
    return hashlib.sha256((settings.namespace or str(settings.home)).encode()).hexdigest()[:8]


def has_volume(name: str) -> bool:
    """Whether the Docker engine has a volume of that name. Raises EngineUnavailable."""
    engine = DockerEngine(EngineSettings(Path(), Path()), prepare=False)
    return any(volume.name == name for volume in engine._client.volumes.list(filters={"name": name}))


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
    """Gives the log folder to the container's user, which is never root, and to nobody else; returns that user."""
    log_files.make_private(folder)
    if os.getuid() == 0:
        os.chown(folder, SERVER_USER, SERVER_USER)
        return f"{SERVER_USER}:{SERVER_USER}"
    return f"{os.getuid()}:{os.getgid()}"
