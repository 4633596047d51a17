#!/usr/bin/env bash
# Downloads the parts of the air-gapped images: Debian packages on top of perennial/base:bookworm, and wheels.
# Run it where an index and a Debian mirror are reachable, then carry the folders to the air-gapped machine.
set -eu
cd "$(dirname "$0")/../.."
python=${PYTHON:-.venv/bin/python}
packages=(git tini postgresql-15 redis-server prometheus)
debs=docker/airgapped/debs
aside=$(mktemp -d)
trap 'rm -rf "$aside"' EXIT
if ! ls "$debs"/*.deb >/dev/null 2>&1; then
  mkdir "$aside/partial"
  # apt resolves against the packages of the base image, not those of this machine.
  container=$(docker create perennial/base:bookworm true)
  docker cp -q "$container:/var/lib/dpkg/status" "$aside/status" 2>/dev/null || docker cp "$container:/var/lib/dpkg/status" "$aside/status"
  docker rm "$container" >/dev/null
  apt-get install -y -qq --no-install-recommends --download-only -o Debug::NoLocking=1 -o Dir::State::status="$aside/status" \
    -o Dir::Cache::archives="$aside" "${packages[@]}" >/dev/null
  cp "$aside"/*.deb "$debs"
fi
boosters=${BOOSTERS:-}
if grep -qs '^COMPOSE_FILE=.*docker-compose.boosters.yaml' .env; then boosters=1; fi
for lists in "main${boosters:+ boosters}:docker/airflow/wheels" store:docker/airgapped/wheels; do
  folder=${lists#*:}
  for name in ${lists%%:*}; do cat "requirements/$name.txt"; done >"$aside/wanted.txt"
  # Wheels of an earlier list would be installed too.
  if ! cmp -s "$aside/wanted.txt" "$folder/list.txt"; then
    rm -f "$folder"/*.whl
    for name in ${lists%%:*}; do
      # Includes the packages for older patch versions of Python 3.11: Debian's is 3.11.2.
      sed "s/ ; python_full_version < '3.11[^\\\\]*/ /" "requirements/$name.txt" >"$aside/list.txt"
      # A fixed date gives wheels that are built from sources the same bytes each time, so that their layer is not rebuilt.
      SOURCE_DATE_EPOCH=315532800 "$python" -m pip wheel -q --disable-pip-version-check --no-deps --require-hashes -r "$aside/list.txt" -w "$folder"
    done
    cp "$aside/wanted.txt" "$folder/list.txt"
  fi
done
echo "fetched: $(ls "$debs"/*.deb | wc -l) Debian packages, $(ls docker/airflow/wheels/*.whl docker/airgapped/wheels/*.whl | wc -l) wheels"
