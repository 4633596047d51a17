"""Slots on the process engine and on the Docker engine, behind a real Traefik."""
