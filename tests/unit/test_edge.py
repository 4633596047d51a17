"""What an export brings along in place of packages: the check of a signature as pynacl makes it, and JSON as orjson reads it."""

import orjson
import pytest
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey as Nacl
from nacl.signing import VerifyKey

from pipeline.edge import json_as_orjson, serve


def by_nacl(key, signature, message):
    try:
        VerifyKey(key).verify(message, signature)
    except (BadSignatureError, ValueError):
        return False
    return True


def changed(content, bit):
    flipped = bytearray(content)
    flipped[bit // 8 % len(content)] ^= 1 << bit % 8
    return bytes(flipped)


@pytest.mark.parametrize("seed", range(6))
def test_a_signature_counts_as_for_pynacl(seed):
    """A right signature is one; with one bit changed in key, signature or message it is none, and pynacl says the same of each."""
    private = Nacl(bytes([seed]) * 32)
    key, message = bytes(private.verify_key), bytes(range(seed * 7))
    signature = private.sign(message).signature
    assert serve.verified(key, signature, message)
    others = [(key, changed(signature, bit), message) for bit in (0, 101, 255, 256, 390, 511)]
    others += [(changed(key, bit), signature, message) for bit in (0, 77, 255)]
    others += [(key, signature, message + b"!"), (key, signature[:63], message), (key[:31], signature, message)]
    for other in others:
        assert serve.verified(*other) == by_nacl(*other) == False  # noqa: E712


def test_what_is_no_signature_in_form_is_none():
    """Neither s beyond the order, nor a key of small order, nor an encoding that is no point is taken, as by pynacl."""
    private = Nacl(b"k" * 32)
    key, signature = bytes(private.verify_key), private.sign(b"m").signature
    beyond = signature[:32] + (int.from_bytes(signature[32:], "little") + serve.ORDER).to_bytes(32, "little")
    small = bytes([1]) + bytes(31)
    for case in (
        (key, beyond, b"m"),
        (small, small + bytes(32), b"m"),
        (b"\xff" * 32, signature, b"m"),
        (bytes(32), bytes(64), b""),
    ):
        assert serve.verified(*case) == by_nacl(*case) == False  # noqa: E712


TEXTS = [
    b'{"a": [1, -2.5, 1e3, null, true, "x\\u00e9\\n"]}',
    b"18446744073709551615",
    b"18446744073709551616",
    b"-9223372036854775808",
    b"-9223372036854775809",
    b"123456789012345678901234567890",
    b'"\xc3\xa9"',
    b'"\xff"',
    b'"\\ud800"',
    b'"\\ud83d\\ude00"',
    b"NaN",
    b"[Infinity]",
    b"-Infinity",
    b'{"a": 1, "a": 2}',
    b"",
    b"[1,]",
    b"01",
    b"+1",
    b'"\x01"',
    b"[" * 5000 + b"]" * 5000,
    b" {} x",
    b"\xef\xbb\xbf{}",
]


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text[:24].decode("latin-1"))
def test_json_is_read_as_orjson_reads_it(text):
    """Each text has the value that orjson gives it, or is refused by both."""
    read = []
    for loads, refused in (
        (orjson.loads, orjson.JSONDecodeError),
        (json_as_orjson.loads, json_as_orjson.JSONDecodeError),
    ):
        try:
            value = loads(text)
            read.append((type(value), value))
        except refused:
            read.append("refused")
    assert read[0] == read[1]
