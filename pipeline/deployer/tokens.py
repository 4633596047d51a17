"""Tokens of a minute: each says who calls, and is good for one verb on one model, once.

HS256 over a key that workers and deployer share ($PERENNIAL_DEPLOYER_KEY, 32 bytes or more).
"""

from __future__ import annotations

import secrets
import threading
import time
from dataclasses import dataclass, field

import jwt

from pipeline.errors import RolloutError
from pipeline.settings.environment import Environment

AUDIENCE = "perennial-deployer"
LIFE_S = 60
# Two machines' clocks.
LEEWAY_S = 10
KEY_BYTES = 32


class TokenRefused(Exception):
    """str() says why, and nothing of the token."""


def key(environment: Environment) -> str:
    """The shared key. Raises RolloutError when it is not there or too short to be one."""
    found = environment.deployer_key
    if len(found) < KEY_BYTES:
        raise RolloutError(
            "PERENNIAL_DEPLOYER_KEY", f"has {len(found)} characters, fewer than {KEY_BYTES}", "`make env` draws one"
        )
    return found


def drawn(key: str, run: str, verb: str, model: str) -> str:
    """A token for one call."""
    now = int(time.time())
    told = {"aud": AUDIENCE, "sub": run, "verb": verb, "model": model, "iat": now, "exp": now + LIFE_S}
    return jwt.encode({**told, "jti": secrets.token_hex(16)}, key, algorithm="HS256")


@dataclass
class Checker:
    """Takes each token once."""

    key: str
    _seen: dict[str, float] = field(default_factory=dict)
    _one: threading.Lock = field(default_factory=threading.Lock)

    def check(self, token: str, verb: str, model: str) -> str:
        """Who calls. Raises TokenRefused."""
        needed = ["aud", "sub", "verb", "model", "iat", "exp", "jti"]
        try:
            told = jwt.decode(
                token,
                self.key,
                algorithms=["HS256"],
                audience=AUDIENCE,
                leeway=LEEWAY_S,
                options={"require": needed},
            )
        except jwt.InvalidTokenError as error:
            raise TokenRefused(str(error)) from error
        if told["exp"] - told["iat"] > LIFE_S:
            raise TokenRefused(f"lives longer than {LIFE_S} s")
        if (told["verb"], told["model"]) != (verb, model):
            raise TokenRefused("is for another verb or model")
        now = time.time()
        with self._one:
            self._seen = {one: until for one, until in self._seen.items() if until > now}
            if told["jti"] in self._seen:
                raise TokenRefused("was used before")
            self._seen[told["jti"]] = told["exp"] + LEEWAY_S
        return told["sub"]
