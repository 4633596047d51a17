"""One real store or tool: git, DVC, MLflow's store, Postgres, a slot's server, Traefik, or slots and a router in memory."""
