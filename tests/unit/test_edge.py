"""What an export brings along in place of packages: the check of a signature as pynacl makes it, JSON as orjson reads it, and HTTP."""

import hashlib
import json
import socket
import threading
from types import SimpleNamespace

import orjson
import pytest
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey as Nacl
from nacl.signing import VerifyKey

from pipeline.edge import json_as_orjson, serve, worker
from pipeline.serving.errors import RequestRefused
from pipeline.serving.identity import Identity


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
    b"[1e400]",
    b"-1e400",
    b"1" * 400,
    b"0.1e-400",
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


def test_a_linked_folder_is_not_in_the_export(tmp_path):
    """A folder that somebody linked into a version, which an import would follow, is refused by its name, as a file is."""
    private = Nacl(b"k" * 32)
    version, other = tmp_path / "3", tmp_path / "numpy"
    (version / "code").mkdir(parents=True)
    other.mkdir()
    (version / "code" / "m.py").write_bytes(b"")
    listed = json.dumps({"files": {"code/m.py": hashlib.sha256(b"").hexdigest()}}).encode()
    (version / "export.json").write_bytes(listed)
    (version / "export.signature").write_text(private.sign(listed).signature.hex())
    key = bytes(private.verify_key).hex()
    assert serve.checked(version, key)["files"]
    (version / "code" / "numpy").symlink_to(other)
    with pytest.raises(serve.Refused, match="code/numpy: is not in the export"):
        serve.checked(version, key)


class Answering:
    """An exported version that answers with the size of the body."""

    exported, identity = {"max_body_mb": 1}, Identity("churn", "3", "edge")
    runtime = SimpleNamespace(features=["spend"], reader=SimpleNamespace(names=[], schema={}), platform="p", classes=[])

    def answer(self, path, headers, body):
        if path != "/invocations":
            raise RequestRefused(404, f"there is no {path}")
        if body == b"fails":
            raise ZeroDivisionError
        return json.dumps(len(body)).encode(), []


@pytest.fixture
def edge():
    listening = socket.create_server(("127.0.0.1", 0))
    server = worker.Server(Answering(), listening.fileno())
    listening.detach()
    serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    serving.start()
    yield server
    server.drain()
    serving.join()
    server.drained.join()


def asked(server, head, body=b""):
    """(status, body) of the answer to a request, by its own bytes."""
    with socket.create_connection(server.socket.getsockname(), timeout=5) as connection:
        connection.sendall(head.replace("\n", "\r\n").encode("latin-1") + b"\r\n\r\n" + body)
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    first, _, said = answer.partition(b"\r\n\r\n")
    return int(first.split()[1]), said


POST = "POST /invocations HTTP/1.1\nconnection: close"
HEADS = [
    (f"{POST}\ncontent-length: 4", 200, b"4"),
    (f"{POST.replace('invocations', 'invocations?a=1')}\ncontent-length: 4", 200, b"4"),
    (POST, 411, b"content-length is missing"),
    (f"{POST}\ncontent-length: 4\ntransfer-encoding: chunked", 411, b"content-length is missing"),
    (f"{POST}\ncontent-length: \xb2", 400, b"one number"),
    (f"{POST}\ncontent-length: {'9' * 5000}", 400, b"one number"),
    (f"{POST}\ncontent-length: 4\ncontent-length: 3", 400, b"one number"),
    (f"{POST}\ncontent-length: {2**20 + 1}", 413, b"the body is larger than 1 MiB"),
    (f"{POST}\ncontent-length: 4\ncontent-encoding: gzip", 415, b"unpacks nothing"),
    (f"{POST.replace('invocations', 'other')}\ncontent-length: 4", 404, b"there is no /other"),
    ("PUT / HTTP/1.1", 501, b"Unsupported method"),
    ("HEAD /ping HTTP/1.1\nconnection: close", 200, b""),
    ("GET /v2/models/churn/versions/3/ready HTTP/1.1\nconnection: close", 200, b'"ready": true'),
    ("GET /v2/models/churn HTTP/1.1\nconnection: close", 200, b'"inputs"'),
    ("\x16\x03\x01", 400, b"Bad request"),
]


@pytest.mark.parametrize(("head", "status", "words"), HEADS, ids=range(len(HEADS)))
def test_a_head_is_answered_or_refused_in_json(edge, head, status, words):
    """Whatever a client sends gets a status and, where it is refused, an object with the error; no connection ends without an answer."""
    found, said = asked(edge, head, b"body")
    assert (found, words in said) == (status, True)
    assert found == 200 or "error" in json.loads(said)


def test_a_client_that_asks_first_hears_at_once(edge):
    """`Expect: 100-continue` is answered before the body is there, by 100 or by the refusal of its length."""
    for length, word in ((4, b"100 Continue"), (2_000_000, b"413 ")):
        with socket.create_connection(edge.socket.getsockname(), timeout=5) as connection:
            connection.sendall(
                f"{POST}\ncontent-length: {length}\nexpect: 100-continue\n\n".replace("\n", "\r\n").encode()
            )
            assert word in connection.recv(1000)
            if length == 4:
                connection.sendall(b"body")
                assert b"200 OK" in connection.recv(1000)


def test_a_model_that_fails_is_an_answer_too(edge, capfd):
    """An error that nobody foresaw is a 500 with where to look, and its trace is in the runner's output."""
    status, said = asked(edge, f"{POST}\ncontent-length: 5", b"fails")
    assert (status, b"output says why" in said) == (500, True)
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_a_second_signal_loses_no_request(edge):
    """A service manager signals the worker and its runner, which signals it again: it drains once, and answers what it has."""
    with socket.create_connection(edge.socket.getsockname(), timeout=5) as connection:
        connection.sendall(f"{POST}\ncontent-length: 4\n\n".replace("\n", "\r\n").encode())
        while not edge.open:
            pass
        edge.drain()
        edge.drain()
        connection.sendall(b"body")
        assert b"200 OK" in connection.recv(1000)
