#!/usr/bin/env bash
# Replaces the server's data by a backup, on this machine or a new one. Live slots are started again from the routes.
set -eu -o pipefail
from=$(realpath "${1:?usage: make restore FROM=backups/TIME}")
source "$(dirname "$0")/compose.sh"
(cd "$from" 2>/dev/null && sha256sum --status --check SHA256SUMS 2>/dev/null) || { echo "restore: $from is not whole, nothing was changed; use another backup"; exit 1; }
umask 077
# Secrets come from the backup. This machine's other settings stay, as do the address and keys of a store that it names.
# Each restore keeps the .env before it under a name of its own.
before=.env.before-$(date -u +%Y-%m-%dT%H%M%S.%NZ)
touch .env
cp .env "$before"
awk -F= -v before="$before" '
  !/^[A-Za-z_0-9]+=/ { next }
  FILENAME == before { mine[$1] = $0; next }
  { theirs[$1] = $0 }
  END {
    for (name in theirs) {
      secret = name ~ /_(PASSWORD|SECRET|KEY|SEED)$/ && !(name ~ /^S3_/ && "S3_ENDPOINT" in mine)
      print (name in mine && !secret ? mine[name] : theirs[name])
    }
    for (name in mine) if (!(name in theirs)) print mine[name]
  }' "$before" "$from/env" | sort >.env.part
mv .env.part .env
compose exec -T deployer python -m pipeline.deployer --stop-slots >/dev/null 2>&1 || true  # on a new machine no deployer runs
services=$(compose config --services | grep -vE '^(postgres|redis|store|init)$')
compose rm -sf $services >/dev/null
compose up -d postgres redis store
for _ in $(seq 60); do compose exec -T postgres pg_isready -q -h 127.0.0.1 && break || sleep 1; done
# The volume of a server that ran before has another password than the backup.
password=$(sed -n "s/^POSTGRES_PASSWORD=//p" .env | sed "s/'/''/g")
compose exec -T postgres psql -q -h /var/run/postgresql -U postgres <<<"ALTER ROLE postgres PASSWORD '$password'"
compose run --rm -T init >/dev/null
for database in airflow mlflow ledger; do
  compose exec -T postgres psql -q -h /var/run/postgresql -U postgres -c "DROP DATABASE $database WITH (FORCE)" -c "CREATE DATABASE $database OWNER $database"
  compose exec -T postgres pg_restore -h /var/run/postgresql -U postgres --exit-on-error -d "$database" <"$from/$database.dump"
  echo "restore: database $database"
done
# Drops queued tasks: the restored databases do not know them, or queue them again.
compose exec -T redis redis-cli flushall >/dev/null
compose run --rm -T --no-deps init python -m pipeline.services.server import-store <"$from/store.tar"
compose run --rm -T --no-deps deployer sh -c 'rm -rf /var/lib/perennial/routes/* /var/lib/perennial/predictions /var/lib/perennial/versions && tar -C /var/lib/perennial -xf -' <"$from/deployer.tar"
compose up -d
echo "restore: done (the earlier .env: $before); the deployer starts the live versions as soon as all services are up"
