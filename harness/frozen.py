"""Imported last by a server that forks: what it holds by then no collection touches, and so no fork has to copy."""

import gc

from sqlalchemy.orm import configure_mappers

configure_mappers()
gc.collect()
gc.freeze()
