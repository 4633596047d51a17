"""Blue-green: start the new version beside the live one, prove it, move the route, watch, or move back."""
