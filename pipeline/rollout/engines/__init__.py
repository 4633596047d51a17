"""What runs slots: containers, or local processes."""
