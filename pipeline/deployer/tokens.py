"""Tokens for calls of the deployer: each names its caller, and is valid for a minute, once, for one verb on one model.

Signed by HS256 with a key that workers and deployer share ($PERENNIAL_DEPLOYER_KEY, 32 bytes or more).
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
# The clocks of two machines may differ by so much.
LEEWAY_S = 10
KEY_BYTES = 32


class TokenRefused(Exception):
    """str() is the reason; it holds nothing of the token."""


def key(environment: Environment) -> str:
    """The shared key. Raises RolloutError when it is missing or too short."""
    shared = environment.deployer_key
    if len(shared) < KEY_BYTES:
        raise RolloutError(
            "PERENNIAL_DEPLOYER_KEY", f"has {len(shared)} characters, fewer than {KEY_BYTES}", "`make env` draws one"
        )
    return shared


def issue(key: str, run: str, verb: str, model: str) -> str:
    """A token for one call."""
    now = int(time.time())
    claims = {"aud": AUDIENCE, "sub": run, "verb": verb, "model": model, "iat": now, "exp": now + LIFE_S}
    return jwt.encode({**claims, "jti": secrets.token_hex(16)}, key, algorithm="HS256")


@dataclass
class Checker:
    """Accepts each token once."""

    key: str
    _seen: dict[str, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def check(self, token: str, verb: str, model: str) -> str:
        """The caller that the token names. Raises TokenRefused."""
        needed = ["aud", "sub", "verb", "model", "iat", "exp", "jti"]
        try:
            claims = jwt.decode(
                token,
                self.key,
                algorithms=["HS256"],
                audience=AUDIENCE,
                leeway=LEEWAY_S,
                options={"require": needed},
            )
        except jwt.InvalidTokenError as error:
            raise TokenRefused(str(error)) from error
        if claims["exp"] - claims["iat"] > LIFE_S:
            raise TokenRefused(f"lives longer than {LIFE_S} s")
        if (claims["verb"], claims["model"]) != (verb, model):
            raise TokenRefused("is for another verb or model")
        now = time.time()
        with self._lock:
            self._seen = {token_id: until for token_id, until in self._seen.items() if until > now}
            if claims["jti"] in self._seen:
                raise TokenRefused("was used before")
            self._seen[claims["jti"]] = claims["exp"] + LEEWAY_S
        return claims["sub"]
