"""From a source to rows that may be trained on: query, snapshot, contract."""
