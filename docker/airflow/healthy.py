#!/opt/venv/bin/python -IS
"""Exits with 0 when each URL answers with 200 and each file (a path) is at most half a minute old.

Any other argument names a component in the JSON of the last answer whose status must be healthy.
"""

import json
import os
import sys
import time
import urllib.request

answer = {}
for check in sys.argv[1:]:
    if check.startswith("http"):
        with urllib.request.urlopen(check, timeout=25) as response:
            body = response.read()
        try:
            answer = json.loads(body)
        except ValueError:
            answer = {}
    elif check.startswith("/"):
        age_s = time.time() - os.stat(check).st_mtime if os.path.exists(check) else None
        if age_s is None or age_s > 30:
            sys.exit(f"{check}: {'missing' if age_s is None else f'{age_s:.0f} s old'}")
    elif answer.get(check, {}).get("status") != "healthy":
        sys.exit(f"{check}: {answer.get(check)}")
