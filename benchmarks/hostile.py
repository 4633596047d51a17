"""`python -m benchmarks.hostile PORT PREFIX RATE CLIENTS SECONDS KIND…`: bad clients. Prints as JSON how they were answered.

They send their kinds in turn, RATE requests a second over CLIENTS connections at most, each on a connection of its own. The slow
ones are beside them and not counted in the rate: each keeps its connection and sends a byte every half second.
"""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable

import uvloop

from benchmarks import paced

MB = 2**20
SLOW_CLIENTS = 200
GZIP = "content-encoding: gzip"
CSV = "content-type: text/csv"
GOOD = b'{"dataframe_records":[{"spend":10.0,"calls":4,"plan":"plus"}]}'


def _lists(row: bytes, rows: int) -> bytes:
    return b'{"instances":[%b]}' % b",".join([row] * rows)


def _text(text: bytes) -> bytes:
    return b'{"dataframe_records":[{"spend":1.0,"calls":4,"plan":"%b"}]}' % text


def _binary() -> tuple[bytes, str]:
    head = b'{"inputs":[{"name":"plan","datatype":"BYTES","shape":[1,1],"parameters":{"binary_data_size":15000004}}]}'
    return head + struct.pack("<I", 4_000_000_000) + b"a" * 15_000_000, f"inference-header-content-length: {len(head)}"


def _many_names() -> bytes:
    return b",".join(b"c%d" % number for number in range(300_000)) + b",c299999\n" + b"1\n"


# By kind: the body and the headers that it needs.
BODIES: dict[str, Callable[[], tuple[bytes, tuple[str, ...]]]] = {
    "gzip of nested lists": lambda: (gzip.compress(_lists(b"[%b]" % b",".join([b"[]"] * 500), 15_000)), (GZIP,)),
    "gzip of 256 MB": lambda: (gzip.compress(b" " * 2**28, 1), (GZIP,)),
    "gzip of many members": lambda: (gzip.compress(b"[]," * 300) * 50_000, (GZIP,)),
    "deep lists": lambda: (b"[" * 15 * MB, ()),
    "deep objects with a NaN": lambda: (b'{"a":NaN,"b":' + b'{"a":' * 2_500_000, ()),
    "many values": lambda: (b'{"inputs":{"spend":[%b1]}}' % (b"1," * 7_000_000), ()),
    "as many values as allowed": lambda: (_lists(b'[1.5e300,NaN,"%b"]' % (b"a" * 200), 10_000), ()),
    "one long text": lambda: (_text(b"a" * 15_000_000), ()),
    "one long text, packed": lambda: (gzip.compress(_text(b"\\u0041" * 2_500_000)), (GZIP,)),
    "many texts": lambda: (_lists(b'[1,2,"%b"]' % (b"\xc3\xa9" * 15_000), 500), ()),
    "many keys": lambda: (b'{"inputs":{%b}}' % b",".join(b'"k%d":1' % n for n in range(1_000_000)), ()),
    "wide rows": lambda: (b'{"dataframe_records":[{%b}]}' % b",".join(b'"k%d":1' % n for n in range(20_000)), ()),
    "long numerals": lambda: (_lists(b"[%b,1,2]" % (b"9" * 5_000_000), 3), ()),
    "long numerals with a NaN": lambda: (_lists(b"[NaN,1.%b,2]" % (b"9" * 5_000_000), 3), ()),
    "large CSV": lambda: (b"spend,calls,plan\n" + b"1.5,4,plus\n" * 1_400_000, (CSV,)),
    "CSV of one line": lambda: (b"spend,calls,plan\n" + b"," * 15 * MB, (CSV,)),
    "CSV of many names": lambda: (_many_names(), (CSV,)),
    "CSV of one long text": lambda: (b'spend,calls,plan\n1,1,"%b"\n' % (b"a" * 15_000_000), (CSV,)),
    "parquet": lambda: (b"PAR1" + b"\0" * 15_000_000 + b"PAR1", ("content-type: application/vnd.apache.parquet",)),
}
V2: dict[str, Callable[[], tuple[bytes, tuple[str, ...]]]] = {
    "v2, wrong binary length": lambda: (_binary()[0], ("inference-header-content-length: " + "9" * 5_000,)),
    "v2, false sizes": lambda: (_binary()[0], (_binary()[1],)),
}
INFER = "/v2/models/churn/infer"
WEBSOCKET = ("connection: upgrade", "upgrade: websocket", "sec-websocket-version: 13", "sec-websocket-key: x")
CHUNKED = ("transfer-encoding: chunked",)
OTHERS: dict[str, Callable[[str], bytes]] = {
    "websocket": lambda path: request(path, GOOD, WEBSOCKET, close=False),
    "wrong host": lambda path: request(path, GOOD, host="evil.example"),
    "cut body": lambda path: request(path, b"x" * MB)[: MB // 2],
    "false chunks": lambda path: request(path, b"", CHUNKED) + b"fffffffffffffffff\r\nabc",
}
SLOW = "slow clients"


def kinds() -> list[str]:
    return [*BODIES, *V2, *OTHERS, SLOW]


def whole_request(kind: str, prefix: str) -> bytes:
    """A request as it goes over the wire; `prefix` is the model's path, '' for a server of one model."""
    invocations = f"{prefix}/invocations"
    if kind in OTHERS:
        return OTHERS[kind](invocations)
    return request(invocations, *BODIES[kind]()) if kind in BODIES else request(f"{prefix}{INFER}", *V2[kind]())


def request(
    path: str, body: bytes, headers: tuple[str, ...] = (), host: str = "127.0.0.1", close: bool = True
) -> bytes:
    lines = [f"POST {path} HTTP/1.1", f"host: {host}", *headers, *(["connection: close"] if close else [])]
    if not any(line.startswith("content-type") for line in lines):
        lines.append("content-type: application/json")
    if not any(line.startswith("transfer-encoding") for line in lines):
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def _attack(port: int, prefix: str, rate: float, clients: int, seconds: float, kinds: list[str]) -> Counter[str]:
    answers = Counter[str]()
    turns = itertools.cycle([whole_request(kind, prefix) for kind in kinds if kind != SLOW] or [b""])
    print("ready", flush=True)
    until = time.monotonic() + seconds
    slow = [_trickle(port, prefix, bool(n % 2), until) for n in range(SLOW_CLIENTS if SLOW in kinds else 0)]
    trickling = [asyncio.create_task(one) for one in slow]
    free, started, under_way = asyncio.Semaphore(clients), time.monotonic(), set[asyncio.Task[None]]()
    for number in itertools.count():
        await asyncio.sleep(started + number / rate - time.monotonic())
        if time.monotonic() > until:
            break
        if not (next_one := next(turns)):
            continue
        await free.acquire()
        task = asyncio.create_task(_send(port, next_one, answers))
        under_way.add(task)
        task.add_done_callback(lambda task: (free.release(), under_way.discard(task)))
    await asyncio.gather(*under_way)
    for one in trickling:
        one.cancel()
    return answers


async def _send(port: int, whole: bytes, answers: Counter[str]) -> None:
    writer = None
    try:
        async with asyncio.timeout(60):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            # A server may answer before it has read all, and reads no more then.
            writer.write(whole)
            if b"content-length: %d\r\n" % MB in whole[:400]:
                writer.write_eof()
            answers[str(await paced.answer(reader))] += 1
    except TimeoutError:
        answers["none in a minute"] += 1
    except (OSError, EOFError, ValueError):
        answers["closed"] += 1
    finally:
        if writer is not None:
            writer.transport.abort()


async def _trickle(port: int, prefix: str, in_body: bool, until: float) -> None:
    start = f"POST {prefix}/invocations HTTP/1.1\r\nhost: x\r\n".encode()
    start += b"content-length: 1000\r\n\r\n{" if in_body else b"x-slow: "
    while time.monotonic() < until:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(start)
            while not writer.is_closing() and time.monotonic() < until:
                await asyncio.sleep(0.5)
                writer.write(b"1")
                await writer.drain()
        except OSError:
            await asyncio.sleep(0.5)


if __name__ == "__main__":
    at, model_path, a_second, at_once, for_seconds, *named = sys.argv[1:]
    print(
        json.dumps(uvloop.run(_attack(int(at), model_path, float(a_second), int(at_once), float(for_seconds), named)))
    )
