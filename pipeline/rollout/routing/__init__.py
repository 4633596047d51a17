"""The route, its file, and its form for Traefik."""
