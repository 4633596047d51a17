#!/usr/bin/env bash
# Downloads what the air-gapped images are built from: Debian packages on top of perennial/base:bookworm, and wheels.
# Run it where an index and a Debian mirror can be reached; carry the folders over to where they cannot.
set -eu
cd "$(dirname "$0")/../.."
python=${PYTHON:-.venv/bin/python}
packages=(git tini postgresql-15 redis-server prometheus)
debs=docker/airgapped/debs
aside=$(mktemp -d)
trap 'rm -rf "$aside"' EXIT
if ! ls "$debs"/*.deb >/dev/null 2>&1; then
  mkdir "$aside/partial"
  # apt works out what is missing in the base, not on this machine.
  container=$(docker create perennial/base:bookworm true)
  docker cp -q "$container:/var/lib/dpkg/status" "$aside/status" 2>/dev/null || docker cp "$container:/var/lib/dpkg/status" "$aside/status"
  docker rm "$container" >/dev/null
  apt-get install -y -qq --no-install-recommends --download-only -o Debug::NoLocking=1 -o Dir::State::status="$aside/status" \
    -o Dir::Cache::archives="$aside" "${packages[@]}" >/dev/null
  cp "$aside"/*.deb "$debs"
fi
for list in main:docker/airflow/wheels store:docker/airgapped/wheels; do
  folder=${list#*:} wanted=requirements/${list%%:*}.txt
  # What was downloaded for another list would be installed with this one.
  if ! cmp -s "$wanted" "$folder/list.txt"; then
    rm -f "$folder"/*.whl
    # Also what an older patch of Python 3.11 needs: Debian's is 3.11.2.
    sed "s/ ; python_full_version < '3.11[^\\\\]*/ /" "$wanted" >"$aside/list.txt"
    # The same bytes each time for what is built here from its source, so that an image that holds it is not made again.
    SOURCE_DATE_EPOCH=315532800 "$python" -m pip wheel -q --disable-pip-version-check --no-deps --require-hashes -r "$aside/list.txt" -w "$folder"
    cp "$wanted" "$folder/list.txt"
  fi
done
echo "fetched: $(ls "$debs"/*.deb | wc -l) Debian packages, $(ls docker/airflow/wheels/*.whl docker/airgapped/wheels/*.whl | wc -l) wheels"
