"""What a run's last steps import, imported while its stages run in processes of their own: most of that time a core has nothing to do.

Gates, MLflow's record and the model card take seconds for scikit-learn, SciPy and skops alone, and nothing waits for these seconds here.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from pipeline.services.preload import cache_mlflow_package_list
from pipeline.workspaces.stage_server import import_all

LIBRARIES = (
    *("pandas", "pyarrow.parquet", "scipy.stats", "sklearn.metrics", "sklearn.pipeline", "sklearn.compose"),
    *("sklearn.ensemble", "sklearn.tree", "skops.io", "onnxruntime", "mlflow.sklearn", "cyclonedx.model.bom"),
)


@contextlib.contextmanager
def imported_meanwhile() -> Iterator[None]:
    """Imports LIBRARIES in a thread while the block runs, and ends with it; a block that fails waits for nothing."""
    # A daemon: the end of a command that failed does not wait for libraries that nobody needs any more.
    thread = threading.Thread(target=_import, name="imports ahead", daemon=True)
    thread.start()
    yield
    thread.join()


def _import() -> None:
    import_all(LIBRARIES)
    cache_mlflow_package_list()
