# Sourced by the scripts in this folder: `compose` calls Docker's plugin, or the older program docker-compose.
cd "$(dirname "${BASH_SOURCE[0]}")/.."
compose() {
  if docker compose version >/dev/null 2>&1; then docker compose "$@"; else docker-compose "$@"; fi
}
