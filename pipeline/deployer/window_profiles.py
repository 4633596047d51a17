"""What a live version learnt from, and the profile of a span of its model's prediction log in the same buckets.

The log lies with the deployer: a look on a worker gets the counts, of files that workers counted before it or that the deployer counts now.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.context import Context
from pipeline.rollout.prediction_folders import predictions_folder

if TYPE_CHECKING:
    from pipeline.monitoring.log_profiles import LoggedProfile
    from pipeline.monitoring.profiles.kept import Kept
    from pipeline.monitoring.profiles.reference import Reference
    from pipeline.serving.schema import Schema


def window_profile(
    context: Context, name: str, version: str, digest: str, start: datetime, end: datetime
) -> LoggedProfile:
    """Of all requests with event time in [start, end), in the buckets of the version whose package has the `digest`, and of that version's answers."""
    from pipeline.monitoring import log_profiles

    kept = kept_profiles(context, name, version, digest)
    return log_profiles.logged_profile(predictions_folder(context.home, name), kept, start, end)


def kept_profiles(context: Context, name: str, version: str, digest: str, file: Path | None = None) -> Kept:
    """In the buckets of the version, of its categories and answers; kept in `file`, by default the home's."""
    from pipeline.ledger.package_of_version import PackageOfVersion
    from pipeline.ledger.timeline import number_is_its_own_since
    from pipeline.monitoring import answer_profile
    from pipeline.monitoring.profiles.kept import Answered, Kept
    from pipeline.serving import contents
    from pipeline.serving.runtime import schema_of

    package = contents.read(context.registry.package_folder(name, version, digest))
    schema = schema_of(package)
    learnt = {column.name: column.learnt for column in schema.columns if column.learnt is not None}
    reference = reference_of_version(context, name, version, digest, schema)
    layout = answer_profile.with_answers(reference.layout, reference.answers, package.manifest.get("classes", ()))
    since = number_is_its_own_since(context.ledger, name, PackageOfVersion(version, digest))
    answered = Answered(version, digest, since)
    return Kept(file or context.home / "profiles" / f"{name}.db", layout, learnt, answered)


def reference_of_version(context: Context, name: str, version: str, digest: str, schema: Schema) -> Reference:
    """Of all features that the version was trained on."""
    from pipeline.monitoring import drift_reference

    sample = context.registry.reference_file(name, version, digest)
    return drift_reference.whole_of(sample, context.params.model(name), schema.doubles)


def schema_of_version(context: Context, name: str, version: str, digest: str) -> Schema:
    """With the categories that the version learnt; one from before schemas does not know them."""
    from pipeline.serving import contents
    from pipeline.serving.runtime import schema_of

    return schema_of(contents.read(context.registry.package_folder(name, version, digest)))
