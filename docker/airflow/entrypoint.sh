#!/bin/sh
# Writes the DVC remote and the admin's password from the environment, then starts the container's command.
set -eu
umask 077
mkdir -p "$AIRFLOW_HOME"
# Left by a process that was killed in this container: a new process may get its pid and be taken for it.
rm -f "$AIRFLOW_HOME"/*.pid
if [ -n "${PERENNIAL_DATA_BUCKET:-}" ]; then
  cat > /opt/perennial/.dvc/config.local <<EOF
[core]
    remote = server
    site_cache_dir = $DVC_SITE_CACHE_DIR
['remote "server"']
    url = s3://$PERENNIAL_DATA_BUCKET
    endpointurl = $PERENNIAL_S3_ENDPOINT
EOF
fi
if [ -n "${PERENNIAL_ADMIN_PASSWORD:-}" ]; then
  printf '{"admin": "%s"}' "$PERENNIAL_ADMIN_PASSWORD" > "$AIRFLOW_HOME/passwords.json"
  unset PERENNIAL_ADMIN_PASSWORD
fi
# Docker rotates the output; the log of each task is a file, and this loop deletes old ones, by the section keep of params.yaml.
(while :; do
  if [ -d "$AIRFLOW_HOME/logs" ]; then nice -n 19 python -m pipeline.runs.pruning.container --log-days "${PERENNIAL_LOG_DAYS:-30}" || :; fi
  sleep 3600
done) &
exec "$@"
