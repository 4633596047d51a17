"""The demonstration. All code about flights is here, and the product uses none of it."""
