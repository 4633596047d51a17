"""Imported last by a server that forks: what it holds by then no collection touches, and so no fork has to copy."""

import gc

from sqlalchemy.orm import configure_mappers

from pipeline.services.preload import cache_mlflow_package_list

configure_mappers()
cache_mlflow_package_list()
gc.collect()
gc.freeze()
