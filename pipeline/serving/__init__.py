"""The prediction server: all that goes into the serving image. Imports nothing else of ours."""
