"""The demonstration: everything that knows about flights, and nothing that the product needs."""
