#!/usr/bin/env bash
# Puts a backup in place of what is there, on this machine or a new one. Live slots are started again from the routes.
set -eu -o pipefail
from=$(realpath "${1:?usage: make restore FROM=backups/TIME}")
source "$(dirname "$0")/compose.sh"
(cd "$from" 2>/dev/null && sha256sum --status --check SHA256SUMS 2>/dev/null) || { echo "restore: $from is not whole, nothing was changed; take another backup"; exit 1; }
umask 077
# Secrets are the backup's; what follows from this machine and commit stays, and so does a store that this machine names.
stays='COMPOSE_|PERENNIAL_IMAGE_TAG|PERENNIAL_SERVING_IMAGES|DOCKER_GID'
if grep -qs '^S3_ENDPOINT=' .env; then stays="$stays|S3_"; fi
if [ -s .env ]; then grep -E "^($stays)" .env >.env.machine || true; else : >.env.machine; fi
grep -vE "^($(cut -d= -f1 .env.machine | paste -sd '|' | sed 's/^$/none/'))=" "$from/env" >.env.secrets
cat .env.machine .env.secrets >.env.part && rm .env.machine .env.secrets && mv .env.part .env
services=$(compose config --services | grep -vE '^(postgres|redis|store|init)$')
compose rm -sf $services >/dev/null 2>&1
compose up -d postgres redis store
compose run --rm -T init >/dev/null
for database in airflow mlflow ledger; do
  compose exec -T postgres psql -q -h /var/run/postgresql -U postgres -c "DROP DATABASE $database WITH (FORCE)" -c "CREATE DATABASE $database OWNER $database"
  compose exec -T postgres pg_restore -h /var/run/postgresql -U postgres --exit-on-error -d "$database" <"$from/$database.dump"
  echo "restore: database $database"
done
# Tasks that were on their way: the restored databases know nothing of them, or start them again.
compose exec -T redis redis-cli flushall >/dev/null
compose run --rm -T --no-deps init python -m pipeline.services.server import-store <"$from/store.tar"
compose run --rm -T --no-deps deployer sh -c 'rm -rf /var/lib/perennial/routes/* /var/lib/perennial/predictions && tar -C /var/lib/perennial -xf -' <"$from/deployer.tar"
compose up -d
echo "restore: done; the deployer starts what was live as soon as all is up"
