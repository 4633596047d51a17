"""Lets DuckDB read `s3://` addresses in a query where its own extension is not installed, as on a machine without the internet.

DVC brings s3fs, which takes address, region and keys from the usual variables (AWS_ENDPOINT_URL, AWS_DEFAULT_REGION,
AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_PROFILE) or from ~/.aws. Where DuckDB's extension httpfs is installed, it is left to it.
"""

from __future__ import annotations

import re

import duckdb

PREFIX = re.compile(r"\bs3a?://", re.IGNORECASE)
CHECK = "check the address, and AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment"


def is_fault(message: str) -> bool:
    """Whether an error of DuckDB is one of s3fs, which comes as a traceback."""
    return message.startswith("Traceback") and ("botocore" in message or "s3fs" in message)


def what_failed(message: str) -> str:
    """The line of such an error that names the exception: below it DuckDB may have put the query, with a row of ^ under the address."""
    named = [line for line in message.splitlines() if re.match(r"[A-Za-z_][\w.]*: ", line)]
    return (named or message.strip().splitlines())[-1]


def let_read(connection: duckdb.DuckDBPyConnection, query: str) -> None:
    """Makes `connection` read the addresses of S3 that are in `query`; does nothing when there is none."""
    if not PREFIX.search(query) or connection.filesystem_is_registered("s3"):
        return
    known = connection.execute("SELECT installed FROM duckdb_extensions() WHERE extension_name = 'httpfs'").fetchall()
    if (True,) in known:
        return
    import fsspec

    # Neither an earlier listing nor a connection of before a fork: a file that came since would be missing without a word.
    connection.register_filesystem(fsspec.filesystem("s3", skip_instance_cache=True, use_listings_cache=False))
