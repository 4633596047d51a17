"""The part of orjson that the serving code uses, by the standard library: exported as `orjson.py`, since the edge has no other package.

It takes and refuses the same texts: no NaN, no invalid UTF-8, no half of a surrogate pair, no number beyond float64. A whole number
beyond 64 bits is a float.
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

OPT_SERIALIZE_NUMPY = 16
JSONDecodeError = json.JSONDecodeError
LOWEST, HIGHEST = -(2**63), 2**64 - 1


def loads(text: bytes | bytearray | memoryview | str) -> Any:
    """The value of a JSON text. Raises JSONDecodeError."""
    try:
        plain = text if isinstance(text, str) else bytes(text).decode("utf-8")
        value = json.loads(plain, parse_int=_whole, parse_float=_real, parse_constant=_refuse)
        if "\\u" in plain:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeError as error:
        raise JSONDecodeError(f"str is not valid UTF-8 ({error})", "", 0) from error
    except RecursionError:
        raise JSONDecodeError("Recursion limit reached", "", 0) from None
    return value


def dumps(value: Any, default: Any = None, option: int = 0) -> bytes:
    """JSON in UTF-8 without spaces; `default` and `option`, which orjson takes, change nothing here."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_plain).encode()


def _whole(digits: str) -> int | float:
    if len(digits) > 20:
        return _real(digits)
    number = int(digits)
    return number if LOWEST <= number <= HIGHEST else float(digits)


def _real(digits: str) -> float:
    value = float(digits)
    return value if math.isfinite(value) else _refuse(digits[:40])


def _refuse(name: str) -> NoReturn:
    raise JSONDecodeError(f"{name} is no JSON", "", 0)


def _plain(value: Any) -> Any:
    return value.tolist()
