"""What another version answers to the rows that the live one logged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.context import Context
from pipeline.errors import PerennialError
from pipeline.ledger.package_of_version import PackageOfVersion
from pipeline.ledger.timeline import LiveVersion
from pipeline.serving import comparable
from pipeline.training.tasks import Answers

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.serving.runtime import Runtime
    from pipeline.serving.schema import Schema


class Incomparable(Exception):
    """Two versions that cannot be compared on the same rows; str() says why."""


def answers_of(
    context: Context,
    name: str,
    package: PackageOfVersion,
    rows: pd.DataFrame,
    champion: LiveVersion,
    loaded: dict[PackageOfVersion, Runtime] | None = None,
) -> Answers:
    """The package's answers to rows of the prediction log, whose numbers are as the champion takes them. `loaded` keeps packages for who
    asks more than once. Raises Incomparable."""
    from pipeline.serving.errors import PackageRefused
    from pipeline.serving.runtime import Runtime

    version = package.version
    loaded = {} if loaded is None else loaded
    try:
        if package not in loaded:
            loaded[package] = Runtime.load(context.registry.package_folder(name, version, package.digest))
        runtime = loaded[package]
        personal = context.params.model(name).rollout.serving.personal
        if hidden := [feature for feature in runtime.features if feature in personal]:
            raise Incomparable(f"{', '.join(hidden)} is personal and not in the prediction log")
        if missing := comparable.lacking(runtime.reader.schema, rows.columns, rows.columns):
            raise Incomparable(f"version {version} needs {', '.join(missing)}, which requests no longer carry")
        logged = schema_of(context, name, champion)
        if unlike := comparable.unlike_times(logged, runtime.reader.schema):
            raise Incomparable(unlike)
        # What the champion's log rounds to float32.
        if rounded := runtime.reader.doubles.difference(logged.doubles):
            raise Incomparable(
                f"version {version} takes {', '.join(sorted(rounded))} as float64, and the log has it rounded to float32"
            )
        if runtime.task != (own := manifest_of(context, name, champion)["task"]):
            raise Incomparable(f"version {version} is of task {runtime.task}, version {champion.version} of {own}")
        return Answers(runtime.predict_logged(rows), runtime.classes)
    except (PackageRefused, PerennialError, OSError, ValueError, KeyError) as error:
        raise Incomparable(f"version {version} cannot predict these rows ({error})") from error


def schema_of(context: Context, name: str, champion: LiveVersion) -> Schema:
    """That of the version whose log it is."""
    from pipeline.serving import contents
    from pipeline.serving.runtime import schema_of as schema_of_package

    package = context.registry.package_folder(name, champion.version, champion.digest)
    return schema_of_package(contents.read(package))


def manifest_of(context: Context, name: str, champion: LiveVersion) -> dict[str, Any]:
    """The manifest of the champion's package. Raises PackageRefused where a file of it was changed."""
    from pipeline.serving import contents

    return contents.read(context.registry.package_folder(name, champion.version, champion.digest)).manifest
