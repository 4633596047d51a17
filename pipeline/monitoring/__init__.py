"""What live traffic says of a model: drift, and quality on labels that came."""
