"""The route: who answers a model's address, in our words and in Traefik's."""
