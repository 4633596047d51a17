"""What tests and benchmarks share: a small project, real servers and routers of their own, and rollouts under load. No product code."""
