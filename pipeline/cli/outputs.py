"""Where a command may write: a place that cannot be written, or that is one of its own inputs, is refused in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import DataError

PAGE = (".html", ".htm")


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """Raises DataError for what the system says against the files that are written in the block, to `place` or below it."""
    try:
        yield
    except OSError as error:
        raise DataError(str(place), f"cannot be written ({error.strerror})", "choose another place") from error


def write(file: Path, text: str, *inputs: Path, endings: tuple[str, ...] = PAGE) -> None:
    """Writes aside and renames, so that whoever reads the file meanwhile has the old one whole. Raises DataError, as `refuse` does."""
    refuse(file, *inputs, endings=endings)
    # Of a link, which stays one, the file that it leads to.
    file = file.resolve()
    aside = file.with_name(f"{file.name}.part")
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        aside.write_text(text, encoding="utf-8")
        aside.replace(file)


def refuse(output: Path, *inputs: Path, endings: tuple[str, ...] = ()) -> None:
    """Raises DataError for what would be lost: an output that is a folder, a device or a pipe, or one of the `inputs`, by whatever name;
    with `endings`, also a file that is there and has none of them, for it is not what this command wrote before."""
    if output.is_dir():
        raise DataError(str(output), "is a folder", "name a file")
    if output.exists() and not output.is_file():
        raise DataError(str(output), "is a device or a pipe, which a file would replace", "name a file")
    with writing(output):
        same = [each for each in inputs if output.exists() and each.exists() and output.samefile(each)]
    if same:
        raise DataError(str(output), f"is the input {same[0]} itself, which would be lost", "choose another place")
    if endings and output.exists() and output.suffix.lower() not in endings:
        found = f"is there, and does not end in {' or '.join(endings)}"
        raise DataError(str(output), found, "name another file, so that this one is not lost")
