#!/bin/sh
# Makes the cluster in an empty volume with $POSTGRES_PASSWORD and starts Postgres, as the official image does.
set -eu
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  secret=$(mktemp)
  printf '%s' "$POSTGRES_PASSWORD" > "$secret"
  initdb --pgdata "$PGDATA" --username postgres --pwfile "$secret" --auth-host scram-sha-256 --auth-local trust --encoding UTF8 >/dev/null
  rm "$secret"
  echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
fi
exec postgres -D "$PGDATA" -c listen_addresses='*' "$@"
