#!/usr/bin/env bash
# All that cannot be made again, into a folder: databases, the store with data and artefacts, routes, prediction logs,
# secrets. Nothing is stopped for it, so each part is taken before those that it names: a route names a version, the ledger
# and MLflow name what lies in the store.
set -eu -o pipefail
source "$(dirname "$0")/compose.sh"
to=${1:-backups/$(date -u +%Y-%m-%dT%H%M%SZ)}
umask 077
mkdir -p "$to"
# 1: a prediction log grew while it was read; its files are whole each.
compose exec -T deployer tar -C /var/lib/perennial -cf - routes predictions >"$to/deployer.tar" || [ $? -eq 1 ]
for database in ledger mlflow airflow; do
  compose exec -T postgres pg_dump -h /var/run/postgresql -U postgres --format=custom "$database" >"$to/$database.dump"
  echo "backup: database $database, $(stat -c %s "$to/$database.dump") bytes"
done
compose exec -T deployer python -m pipeline.services.server export-store >"$to/store.tar"
cp .env "$to/env"
# Last: a backup without it is not whole.
(cd "$to" && sha256sum airflow.dump mlflow.dump ledger.dump store.tar deployer.tar env >SHA256SUMS)
echo "backup: $to, $(du -sh "$to" | cut -f1); it holds the secrets: keep it as safe as them"
