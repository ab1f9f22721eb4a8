"""A small RTSP server for cameras.py: H.264 from a test picture at /front. Needs Debian's GStreamer packages.

Run by the system's Python, which has the bindings: `python3 rtsp_server.py [PORT [LOST]]` prints its port.
At /noise each frame is many RTP packets long, and the share LOST of them (0 to 1) is not sent.
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

PIPELINE = (
    "( videotestsrc is-live=true pattern=ball ! video/x-raw,width=320,height=240,framerate=25/1 ! "
    "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=10 threads=1 ! rtph264pay name=pay0 pt=96 )"
)

NOISE = (
    "( videotestsrc is-live=true pattern=snow ! video/x-raw,width=320,height=240,framerate=25/1 ! "
    "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=10 threads=1 bitrate=2000 ! "
    "rtph264pay mtu=1000 pt=96 ! identity name=pay0 drop-probability={lost} )"
)


def main() -> None:
    """Serve until killed. Ends with status 77 if an element is missing."""
    Gst.init(None)
    if not all(Gst.ElementFactory.find(name) for name in ("videotestsrc", "x264enc", "rtph264pay")):
        sys.exit(77)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(sys.argv[1] if len(sys.argv) > 1 else "0")
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(PIPELINE)
    factory.set_shared(True)
    server.get_mount_points().add_factory("/front", factory)
    noise = GstRtspServer.RTSPMediaFactory()
    noise.set_launch(NOISE.format(lost=sys.argv[2] if len(sys.argv) > 2 else "0"))
    noise.set_shared(True)
    server.get_mount_points().add_factory("/noise", noise)
    if not server.attach(None):
        sys.exit("can't listen")
    print(server.get_bound_port(), flush=True)  # noqa: T201
    GLib.MainLoop().run()


main()
