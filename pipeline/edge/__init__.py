"""What `perennial export` puts beside a package, to serve it where nothing is but Python, onnxruntime and numpy."""
