"""DVC's configuration that is a machine's own: `.dvc/config.local` of a workspace and of the project.

    python -m pipeline.workspaces.dvc_config

writes that of the project in the working folder; `make setup` calls it. Any path fits: DVC's own command writes no letters beyond
ASCII, and takes the rest of a path after a # for a comment when it is not quoted.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from configobj import ConfigObj, ConfigObjError

SITE_CACHE = ".perennial/dvc-site"


def configure(folder: Path, project: Path, home: Path, cache: Path | None = None) -> None:
    """Writes the project's DVC remote and cache, or `cache` instead, into `folder`/.dvc/config.local, which overrides its config."""
    from dvc.repo import Repo

    _follow_project(project)
    with Repo(str(project)) as repo:
        remote = repo.config["core"].get("remote")
        options = dict(repo.config["remote"][remote]) if remote else {}
        shared = repo.cache.local_cache_dir
    local = ConfigObj(encoding="utf-8", list_values=True)
    local["cache"] = {"dir": str(cache or shared)}
    local["core"] = {"site_cache_dir": str(private_site_cache(home))}
    if remote:
        local["core"]["remote"] = remote
        local[f'remote "{remote}"'] = options
    # The remote's options may hold keys, so only the owner may read the file.
    with open(os.open(folder / ".dvc" / "config.local", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        local.write(file)


def cache_folder(folder: Path) -> Path:
    """Where the project's own files of configuration say that DVC's cache is; DVC itself also reads those of the user and of the machine."""
    named = ""
    for file in ("config", "config.local"):
        path = folder / ".dvc" / file
        # One that cannot be read is DVC's to tell.
        with contextlib.suppress(ConfigObjError, OSError, UnicodeError, AttributeError):
            configured = ConfigObj(str(path), encoding="utf-8", interpolation=False) if path.is_file() else {}
            named = configured.get("cache", {}).get("dir", named)
    # DVC takes a path that is not absolute from the folder of the configuration.
    return folder / ".dvc" / (named if isinstance(named, str) and named else "cache")


def _follow_project(project: Path) -> None:
    """Names the project's own site cache again after its folder was moved: DVC would make the old folder again for it."""
    path = project / ".dvc" / "config.local"
    named = ConfigObj(str(path), encoding="utf-8").get("core", {}).get("site_cache_dir", "") if path.is_file() else ""
    own = project / SITE_CACHE
    if named.endswith(f"/{SITE_CACHE}") and named != str(own) and not Path(named).exists():
        write_site_cache(project)


def private_site_cache(home: Path) -> Path:
    """A site cache for DVC that only the owner can open. DVC keeps pickles there, and its default is open to all users."""
    folder = home / "dvc-site"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def write_site_cache(project: Path) -> None:
    """Gives DVC commands in the project a site cache of their own; other keys of its `.dvc/config.local` stay."""
    path = project / ".dvc" / "config.local"
    local = ConfigObj(str(path), encoding="utf-8") if path.is_file() else ConfigObj(encoding="utf-8")
    local.setdefault("core", {})["site_cache_dir"] = str(private_site_cache(project / ".perennial"))
    path.parent.mkdir(exist_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        local.write(file)


if __name__ == "__main__":
    write_site_cache(Path.cwd())
