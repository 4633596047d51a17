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
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* "$root"/usr/share/locale/*
# What says of each package how it may be used stays with it.
find "$root"/usr/share/doc -type f ! -name copyright -delete
find "$root"/usr/share/doc -type d -empty -delete
tar -C "$root" -c . | docker import --change 'CMD ["python3"]' - "$tag"
