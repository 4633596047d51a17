"""Traefik's static configuration and its plugin: what it reads once, at its start. Routes are files of their own."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from pipeline.rollout.routing import no_model
from pipeline.rollout.routing.route_file import routes_folder
from pipeline.rollout.routing.traefik import PLUGIN_MODULES
from pipeline.settings import yaml_file
from pipeline.settings.models import load

# Traefik's heap is small and its garbage plenty. With Go's default, a collection at twice the heap, half its time goes there.
ENVIRONMENT = {"GOGC": "400"}
# Bounds of Traefik's latency histograms, in seconds.
BOUNDS_S = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


def write(project: Path, home: Path, port: int, api_port: int) -> None:
    """Writes the configuration of this machine's Traefik, its plugins, which it looks for below its working folder, and the route of
    what belongs to no model."""
    text = static(
        routes_folder(home),
        f"127.0.0.1:{port}",
        f"127.0.0.1:{api_port}",
        latency_limits_ms(project, home / "traefik.yaml"),
        request_s(project, home / "traefik.yaml"),
    )
    # Aside first: on a full disk the router keeps what it has.
    aside = home / "traefik.yaml.part"
    aside.write_text(text, encoding="utf-8")
    aside.replace(home / "traefik.yaml")
    install_plugins(project, home)
    no_model.write(home)


def latency_limits_ms(project: Path, file: Path) -> set[float]:
    """The models' latency limits. Those of a model whose settings cannot be read are in the configuration that `file` holds."""
    params = load(project)
    every = {model.rollout.limits.p99_ms for model in params.models.values()}
    limits = {limit for limit in every if limit is not None}
    if params.broken or params.no_models:
        with suppress(OSError, yaml.YAMLError, TypeError, KeyError):
            counted = _written(file)["metrics"]["prometheus"]["buckets"]
            limits |= {seconds * 1000 for seconds in counted if seconds not in BOUNDS_S}
    return limits


def request_s(project: Path, file: Path) -> float:
    """The longest time that a model gives a request to arrive; while settings cannot be read, no less than `file` gives."""
    params = load(project)
    longest = [model.rollout.serving.request_s for model in params.models.values()] or [30.0]
    if params.broken or params.no_models:
        with suppress(OSError, yaml.YAMLError, TypeError, KeyError, ValueError):
            timeouts = _written(file)["entryPoints"]["web"]["transport"]["respondingTimeouts"]
            longest.append(float(timeouts["readTimeout"].removesuffix("s")))
    return max(longest)


def _written(file: Path) -> dict[str, Any]:
    return yaml_file.parse(file.read_text(encoding="utf-8"))


def install_plugins(project: Path, folder: Path) -> None:
    """Copies the router's plugins to where a Traefik that works in `folder` looks for them."""
    for name, module in PLUGIN_MODULES.items():
        plugin = folder / "plugins-local" / "src" / module
        source = project / "docker" / "router" / name
        shutil.copytree(source, plugin, ignore=shutil.ignore_patterns("*_test.go", "testdata"), dirs_exist_ok=True)


def static(routes: Path, web: str, api: str, limits_ms: set[float], read_s: float = 30.0) -> str:
    """The YAML text: one entry point, the route files, metrics. Traefik listens on `web` and `api`, each HOST:PORT.

    Each of `limits_ms` becomes a bound of the latency histograms, so that the share of slower answers is exact.
    A request must have arrived after `read_s`.
    """
    configuration: dict[str, Any] = {
        "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
        "entryPoints": {
            "web": {"address": web, "transport": {"respondingTimeouts": {"readTimeout": f"{read_s:g}s"}}},
            "traefik": {"address": api},
        },
        "providers": {
            "providersThrottleDuration": "100ms",
            "file": {"directory": str(routes), "watch": True},
        },
        "api": {"insecure": True, "dashboard": True},
        "ping": {"entryPoint": "traefik"},
        "metrics": {
            "prometheus": {
                # A rollout reads the counts of each slot; those of each router are what clients got, the router's own 429, 500
                # and 502 too. A third count for the entry point would cost time.
                "addServicesLabels": True,
                "addRoutersLabels": True,
                "addEntryPointsLabels": False,
                "buckets": sorted({*BOUNDS_S, *(ms / 1000 for ms in limits_ms)}),
            }
        },
        "experimental": {"localPlugins": {name: {"moduleName": module} for name, module in PLUGIN_MODULES.items()}},
        "log": {"level": "WARN"},
    }
    return yaml.safe_dump(configuration, sort_keys=False)
