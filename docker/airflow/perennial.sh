#!/bin/sh
exec python -m pipeline "$@"
