"""The ports that servers are started on."""

from __future__ import annotations

import socket

import pytest

from pipeline.settings import net


@pytest.fixture
def connections_from(tmp_path, monkeypatch):
    """Sets from which port on the kernel says that it takes those of connections; None where it says nothing."""

    def say(first: int | None) -> None:
        path = tmp_path / "range"
        path.unlink(missing_ok=True)
        if first is not None:
            path.write_text(f"{first}\t60999\n")
        monkeypatch.setattr(net, "CONNECTIONS", path)

    return say


@pytest.mark.parametrize(("first", "end"), [(32_768, net.END), (20_005, 20_005), (None, net.END)])
def test_no_connection_is_given_it(connections_from, first, end):
    """A port lies below those of outgoing connections, and can be listened on."""
    connections_from(first)
    ports = {net.free_port() for _ in range(20)}
    assert len(ports) > 1 and all(net.LOWEST <= port < end for port in ports)


def test_one_that_is_listened_on_is_left_out(connections_from, monkeypatch):
    """Of two ports it is the one that nothing listens on, and where there is none the kernel gives one of its own."""
    connections_from(32_768)
    with socket.socket() as taken, socket.socket() as also:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setattr(net, "LOWEST", taken.getsockname()[1])
        monkeypatch.setattr(net, "END", net.LOWEST + 1)
        connections_from(65_535)
        other = net.free_port()
        assert other != net.LOWEST
        also.bind(("127.0.0.1", other))


def test_where_the_kernel_takes_nearly_all_ports_it_gives_one(connections_from):
    """A machine whose connections begin at port 1024 has a free port too."""
    connections_from(1024)
    with socket.socket() as server:
        server.bind(("127.0.0.1", net.free_port()))
