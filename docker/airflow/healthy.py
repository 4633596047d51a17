#!/opt/venv/bin/python -IS
"""Exit code 0 when each URL answers with 200; a word that is no URL names a part of the last answer's JSON that must say healthy."""

import json
import sys
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
    elif answer.get(word, {}).get("status") != "healthy":
        sys.exit(f"{word}: {answer.get(word)}")
