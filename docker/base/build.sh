#!/usr/bin/env bash
# Builds perennial/base:bookworm (Debian with Python, nothing else) where no registry is reachable.
# Needs root, debootstrap and a Docker engine. Running it again does nothing.
set -eu
tag=perennial/base:bookworm
if docker image inspect "$tag" >/dev/null 2>&1; then
  echo "base image: $tag exists already"
  exit 0
fi
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm "$root" ${DEBIAN_MIRROR:+"$DEBIAN_MIRROR"} >/dev/null
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* "$root"/usr/share/doc/* "$root"/usr/share/locale/*
tar -C "$root" -c . | docker import --change 'CMD ["python3"]' - "$tag"
