"""The engines that run slots: containers, or local processes."""
