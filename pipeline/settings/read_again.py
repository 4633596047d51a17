"""params.yaml for a service that runs for ever: read again when it has changed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.settings import models
from pipeline.settings.models import Params


@dataclass
class ReadAgain:
    """Looks at the file's size and time of change at each `read`; `memory` is a folder for what was read of it
    before."""

    project: Path
    memory: Path | None = None
    _seen: tuple[int, int] = (0, 0)
    _params: Params | None = None

    def read(self) -> Params:
        """params.yaml as it is now. Raises nothing: its faults are in the result."""
        try:
            status = (self.project / "params.yaml").stat()
            seen = (status.st_mtime_ns, status.st_size)
        except OSError:
            seen = (0, 0)
        if self._params is None or seen != self._seen:
            self._params, self._seen = models.load(self.project, self.memory), seen
        return self._params
