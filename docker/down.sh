#!/usr/bin/env bash
# Ends the server: first the slots, which are not services of the compose file, then the services. Volumes stay, except with
# --volumes.
set -eu
source "$(dirname "$0")/compose.sh"
compose exec -T deployer python -m pipeline.deployer --stop-slots || echo "down: the deployer does not run; docker removes its slots"
site=$(sed -n 's/^COMPOSE_PROJECT_NAME=//p' .env)
docker ps -q --filter "network=${site:-perennial}_edge" --filter label=perennial.slot | xargs -r docker rm -f >/dev/null
compose down --remove-orphans "$@"
