"""Blue-green rollouts: start the candidate beside the champion, prove it, move the route by steps, bake, or roll back."""
