"""The prediction server: all that goes into the serving image. It imports nothing else of ours."""
