#!/opt/venv/bin/python -IS
"""Exit code 0 when each URL answers with 200 and each file (a path) is at most half a minute old.

A word that is neither names a part of the last answer's JSON that must say healthy.
"""

import json
import os
import sys
import time
import urllib.request

answer = {}
for word in sys.argv[1:]:
    if word.startswith("http"):
        with urllib.request.urlopen(word, timeout=25) as response:
            body = response.read()
        try:
            answer = json.loads(body)
        except ValueError:
            answer = {}
    elif word.startswith("/"):
        age_s = time.time() - os.stat(word).st_mtime if os.path.exists(word) else None
        if age_s is None or age_s > 30:
            sys.exit(f"{word}: {'not there yet' if age_s is None else f'{age_s:.0f} s old'}")
    elif answer.get(word, {}).get("status") != "healthy":
        sys.exit(f"{word}: {answer.get(word)}")
