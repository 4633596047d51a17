# Sourced by the scripts beside it: `compose` is Docker's own plugin, or the older program of that name.
cd "$(dirname "${BASH_SOURCE[0]}")/.."
compose() {
  if docker compose version >/dev/null 2>&1; then docker compose "$@"; else docker-compose "$@"; fi
}
