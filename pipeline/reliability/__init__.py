"""Service levels as they are seen: checks through the router, what the slots counted, budgets, and what follows from them."""
