#!/usr/bin/env bash
# Ends the server: first the slots, which are no services of the compose file, then all else. Volumes stay, unless --volumes.
set -eu
source "$(dirname "$0")/compose.sh"
compose exec -T deployer python -m pipeline.deployer --stop-slots || echo "down: the deployer does not run, its slots are left to docker"
site=$(sed -n 's/^COMPOSE_PROJECT_NAME=//p' .env)
docker ps -q --filter "network=${site:-perennial}_edge" --filter label=perennial.slot | xargs -r docker rm -f >/dev/null
compose down --remove-orphans "$@"
