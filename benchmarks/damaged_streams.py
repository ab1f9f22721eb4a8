"""Cameras of the network for damaged_video.py: an HTTP server of MJPEG or a transport stream, an RTSP server over TCP.

Each sends what it is given once, bytes and packets as they are, and hangs up. What is damaged lies in the last half.
"""

from __future__ import annotations

import http.server
import random
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from firewall.errors import ImageError, SourceError
from firewall.frame import Pixels
from firewall.sources.stream import open_stream

__all__ = ["STREAMS", "HttpCamera", "RtspCamera", "multipart", "play_damaged", "rtp_packets"]

#: For each codec the transports, and the suffix of the file that is sent.
STREAMS: dict[str, dict[str, str]] = {
    "mjpeg": {"http": "mjpg", "rtsp": "mjpg"},
    "h264": {"http": "ts", "rtsp": "mp4"},
    "h264-slices": {"rtsp": "mp4"},
    "h264-cavlc": {"rtsp": "h264"},
    "hevc": {"http": "ts", "rtsp": "mp4"},
    "mpeg4": {"rtsp": "m4v"},
    "mpeg2": {"http": "ts"},
    "vp8": {"rtsp": "webm"},
    "vp9": {"rtsp": "webm"},
}
_TIMEOUT = 10.0
_CODEC_HEADER = 20  # bytes: RTP's twelve, and the codec's own
_FRAME_TICKS = 3600  # of RTP's clock for video, at 25 frames a second
_REPORTS = range(72, 77)  # RTCP
_MULTIPART = "multipart/x-mixed-replace; boundary=picture"


def play_damaged(
    transport: str, path: Path, damage: str, chance: random.Random, parts: list[Path]
) -> tuple[list[Pixels], int] | None:
    """The frames that are handed out, and the number of errors, the end of the stream not among them.

    Args:
        transport: http or rtsp.
        path: The whole video.
        damage: none, cut, zeroed, flipped or lost; size: the file is as it shall be.
        chance: Chooses the place.
        parts: The files that are sent one behind the other over RTSP where the size changes: ffmpeg tells the first
            size only.

    Returns:
        None where the damage can't happen: a packet of a TCP connection isn't lost.
    """
    if transport == "rtsp":
        description, packets = rtp_packets(*(parts if damage == "size" else [path]))
        camera: RtspCamera | HttpCamera = RtspCamera(description, _damaged_packets(packets, damage, chance))
    elif damage == "lost":
        return None
    elif path.suffix == ".mjpg":
        pictures = [b"\xff\xd8" + rest for rest in path.read_bytes().split(b"\xff\xd8")[1:]]
        camera = HttpCamera(multipart(_damaged_parts(pictures, damage, chance)), _MULTIPART)
    else:
        camera = HttpCamera(_damaged_parts([path.read_bytes()], damage, chance)[0], "video/mp2t")
    try:
        return _played(camera.url)
    finally:
        camera.close()


def _played(url: str) -> tuple[list[Pixels], int]:
    frames: list[Pixels] = []
    errors = 0
    reader = open_stream(url, url, open_timeout=_TIMEOUT, read_timeout=_TIMEOUT)
    while True:
        try:
            frames.append(next(reader)[0])
        except ImageError as error:  # noqa: PERF203
            errors += "Stream ends prematurely" not in str(error)  # as every server does here
        except SourceError:
            break
    reader.close()
    return frames, errors


def _damaged_parts(parts: list[bytes], damage: str, chance: random.Random) -> list[bytes]:
    """Pictures, or one file. Cut: every third picture of the last half ends early, or the file does."""
    if damage == "cut":
        if len(parts) == 1:
            return [parts[0][: len(parts[0]) * 7 // 10 | 1]]
        late = [number > len(parts) // 2 and number % 3 == 0 for number in range(len(parts))]
        return [part[: len(part) * 4 // 10] if cut else part for part, cut in zip(parts, late, strict=True)]
    data, sizes = bytearray(b"".join(parts)), [len(part) for part in parts]
    first, last = len(data) // 2, len(data) * 9 // 10
    if damage == "zeroed":
        start = chance.randrange(first, last)
        data[start : start + 512] = bytes(512)
    if damage == "flipped":
        for _ in range(8):
            data[chance.randrange(first, last)] ^= 1 << chance.randrange(8)
    ends = np.cumsum(sizes)
    return [bytes(data[end - size : end]) for size, end in zip(sizes, ends, strict=True)]


def _damaged_packets(packets: list[bytes], damage: str, chance: random.Random) -> list[bytes]:
    """RTP packets. Zeroed and flipped: behind the headers, so that each is still taken for what it was."""
    packets = list(packets)
    start = chance.randrange(len(packets) // 2, len(packets) * 9 // 10)
    if damage == "cut":
        return packets[: len(packets) * 7 // 10]
    if damage == "lost":
        del packets[start : start + 3]
    if damage == "zeroed":
        packets[start] = packets[start][:_CODEC_HEADER] + bytes(len(packets[start]) - _CODEC_HEADER)
    if damage == "flipped":
        for _ in range(8):
            number = chance.randrange(len(packets) // 2, len(packets) * 9 // 10)
            packet = bytearray(packets[number])
            packet[chance.randrange(min(_CODEC_HEADER, len(packet) - 1), len(packet))] ^= 1 << chance.randrange(8)
            packets[number] = bytes(packet)
    return packets


def multipart(pictures: list[bytes]) -> bytes:
    """The body of an MJPEG camera's answer."""
    head = b"--picture\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"
    return b"".join(head % len(picture) + picture + b"\r\n" for picture in pictures)


class HttpCamera:
    """Answers every request with one body."""

    def __init__(self, body: bytes, kind: str) -> None:
        """Listen on a free port.

        Args:
            body: What is sent.
            kind: Its content type.
        """

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.end_headers()
                with suppress(OSError):
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/front"

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


def rtp_packets(*paths: Path) -> tuple[str, list[bytes]]:
    """(the session's description, the RTP packets) of video files, as ffmpeg sends them, one behind the other."""
    description, first, following = "", b"", 0
    packets: list[bytes] = []
    for path in paths:
        told, sent = _sent(path)
        description, first = description or told, first or sent[0]
        start = int.from_bytes(sent[0][4:8], "big")
        for packet in sent:
            number = (int.from_bytes(first[2:4], "big") + len(packets)) % (1 << 16)
            stamp = (following + int.from_bytes(packet[4:8], "big") - start) % (1 << 32)
            packets.append(
                packet[:2] + number.to_bytes(2, "big") + stamp.to_bytes(4, "big") + first[8:12] + packet[12:]
            )
        following = int.from_bytes(packets[-1][4:8], "big") + _FRAME_TICKS
    return description, packets


def _sent(path: Path) -> tuple[str, list[bytes]]:
    """What ffmpeg sends of one file, without its reports."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver, tempfile.TemporaryDirectory() as folder:
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
        receiver.bind(("127.0.0.1", 0))
        description = Path(folder) / "video.sdp"
        address = f"rtp://127.0.0.1:{receiver.getsockname()[1]}?pkt_size=1200"
        command = ["ffmpeg", "-v", "error", "-readrate", "2", "-i", str(path), "-an", "-c", "copy"]
        command += ["-strict", "experimental", "-f", "rtp", "-sdp_file", str(description), address]
        packets: list[bytes] = []
        with subprocess.Popen(command) as process:
            receiver.settimeout(1.0)
            while True:
                try:
                    packets.append(receiver.recv(65536))
                except TimeoutError:  # noqa: PERF203
                    if process.poll() is not None:
                        break
        return description.read_text(), [packet for packet in packets if packet[1] & 0x7F not in _REPORTS]


class RtspCamera:
    """Plays one list of RTP packets to whoever asks, inside the RTSP connection."""

    def __init__(self, description: str, packets: list[bytes]) -> None:
        """Listen on a free port.

        Args:
            description: SDP of one video.
            packets: RTP packets, in the order they are sent.
        """
        lines = [line for line in description.splitlines() if line[:2] in ("v=", "o=", "s=", "t=", "m=", "b=", "a=")]
        media = next(number for number, line in enumerate(lines) if line.startswith("m="))
        port = lines[media].split()[1]
        lines[media] = lines[media].replace(f" {port} ", " 0 ")
        self._description = "\r\n".join([*lines, "a=control:video", ""]).encode()
        self._packets = packets
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"rtsp://127.0.0.1:{self._listener.getsockname()[1]}/front"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with connection, suppress(OSError):
                    self._talk(connection)

    def _talk(self, connection: socket.socket) -> None:
        with _lines(connection) as requests:
            for request in requests:
                method, number = request[0].split()[0], next(x for x in request if x.lower().startswith("cseq"))
                body, more = b"", ""
                if method == "OPTIONS":
                    more = "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
                elif method == "DESCRIBE":
                    body = self._description
                    more = f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n"
                elif method == "SETUP":
                    more = "Session: 1\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"
                elif method == "PLAY":
                    more = "Session: 1\r\n"
                connection.sendall(f"RTSP/1.0 200 OK\r\n{number}\r\n{more}\r\n".encode() + body)
                if method == "PLAY":
                    for packet in self._packets:
                        connection.sendall(b"$\0" + len(packet).to_bytes(2, "big") + packet)
                    return

    def close(self) -> None:
        """Stop listening."""
        self._listener.close()


@contextmanager
def _lines(connection: socket.socket) -> Iterator[Iterator[list[str]]]:
    """The requests of a connection, as their lines."""
    with connection.makefile("rb") as file:

        def requests() -> Iterator[list[str]]:
            while True:
                found: list[str] = []
                while line := file.readline().decode(errors="replace").strip():
                    found.append(line)
                if not found:
                    return
                yield found

        yield requests()
