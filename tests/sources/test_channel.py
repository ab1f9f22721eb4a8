from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from firewall.errors import SourceError
from firewall.sources.channel import Channel


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected sockets."""
    one, other = socket.socketpair()
    with one, other:
        yield one, other


def test_a_message_arrives_whole_however_it_was_cut(ends: tuple[socket.socket, socket.socket]) -> None:
    """Header and pixels byte by byte: None until the last byte, then all of it, then the next message."""
    sender, receiver = Channel(ends[0]), Channel(ends[1])
    tap, source = socket.socketpair()
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    Channel(source).send({"kind": "frame", "index": 3}, pixels)
    data = tap.recv(4096)
    for socket_ in (tap, source):
        socket_.close()

    for position in range(len(data)):
        assert receiver.receive(0) is None
        ends[0].sendall(data[position : position + 1])
    message = receiver.receive(0)
    assert message is not None
    assert message.header == {"kind": "frame", "index": 3, "bytes": 24}
    assert bytes(message.body) == pixels.tobytes()
    assert receiver.received == len(data)

    sender.send({"kind": "end"})
    following = receiver.receive(1)
    assert following is not None and following.header["kind"] == "end" and following.body == b""


def test_a_frame_larger_than_any_socket_buffer(ends: tuple[socket.socket, socket.socket]) -> None:
    """Sender and receiver take turns until 12 MB are over, also those of a picture that is not contiguous."""
    pixels = (
        np.random.default_rng(0).integers(0, 256, (2000, 1000, 2, 3), dtype=np.uint8)[:, :, ::2].reshape(2000, -1, 3)
    )
    turned = pixels.transpose(1, 0, 2)
    thread = threading.Thread(target=Channel(ends[0]).send, args=({}, turned))
    thread.start()
    message = Channel(ends[1]).receive(30)
    thread.join(10)

    assert message is not None and bytes(message.body) == turned.tobytes()


def test_the_other_end_gone_is_an_eoferror(ends: tuple[socket.socket, socket.socket]) -> None:
    """For the one who receives, also in the middle of a message, and for the one who sends."""
    channel = Channel(ends[0])
    ends[1].sendall(b"\0\0")
    ends[1].close()

    with pytest.raises(EOFError):
        channel.receive(1)
    with pytest.raises(EOFError):
        channel.send({"ask": "next"})


def wire(header: bytes) -> bytes:
    return struct.pack(">I", len(header)) + header


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xff\xff\xff",
        wire(b"not json"),
        wire(b"\xff\xfe"),
        wire(b"[]"),
        wire(b"{}"),
        wire(b'{"bytes": -1}'),
        wire(b'{"bytes": true}'),
        wire(b'{"bytes": 1e3}'),
        wire(b'{"bytes": 999999999999}'),
    ],
)
def test_nonsense_is_a_source_error(data: bytes, ends: tuple[socket.socket, socket.socket]) -> None:
    """Lengths that can't be, headers that aren't JSON objects: refused before memory is asked for."""
    ends[1].sendall(data)

    with pytest.raises(SourceError, match="capture process sent"):
        Channel(ends[0]).receive(1)


@hypothesis_settings(max_examples=100, deadline=None)
@given(header=st.dictionaries(st.text(max_size=5), st.text(max_size=9) | st.integers() | st.lists(st.text(max_size=3))))
def test_any_header_comes_back(header: dict[str, object]) -> None:
    """What JSON can say goes through unchanged, file names that are not UTF-8 included."""
    one, other = socket.socketpair()
    with one, other:
        Channel(one).send(header)
        message = Channel(other).receive(1)
    assert message is not None
    assert message.header == json.loads(json.dumps({**header, "bytes": 0}))
