#!/usr/bin/env bash
# Saves everything that cannot be made again into a folder: databases, the store with data and artefacts, routes, prediction
# logs, secrets. The server keeps running, so each part is saved before the parts that it refers to: a route refers to a
# version; the ledger and MLflow refer to objects in the store.
set -eu -o pipefail
source "$(dirname "$0")/compose.sh"
to=${1:-backups/$(date -u +%Y-%m-%dT%H%M%SZ)}
umask 077
mkdir -p "$to"
# tar exits with 1 when a prediction log grew while it was read; each of its files is complete.
compose exec -T deployer tar -C /var/lib/perennial -cf - routes predictions >"$to/deployer.tar" || [ $? -eq 1 ]
for database in ledger mlflow airflow; do
  compose exec -T postgres pg_dump -h /var/run/postgresql -U postgres --format=custom "$database" >"$to/$database.dump"
  echo "backup: database $database, $(stat -c %s "$to/$database.dump") bytes"
done
compose exec -T deployer python -m pipeline.services.server export-store >"$to/store.tar"
cp .env "$to/env"
# Written last: a backup without checksums is incomplete.
(cd "$to" && sha256sum airflow.dump mlflow.dump ledger.dump store.tar deployer.tar env >SHA256SUMS)
echo "backup: $to, $(du -sh "$to" | cut -f1); it contains the secrets: protect it as you protect them"
