"""Healthy videos that look odd, for damaged_video.py: none of them may give an error."""

from __future__ import annotations

__all__ = ["AV1", "GROUP", "HEALTHY", "MJPEG", "PLAIN", "VPX", "X264", "X265"]

GROUP = 10
X264 = ["-c:v", "libx264", "-preset", "veryfast", "-g", str(GROUP), "-sc_threshold", "0", "-bf", "2"]
X265 = ["-c:v", "libx265", "-preset", "veryfast", "-x265-params", f"keyint={GROUP}:scenecut=0:bframes=2:log-level=none"]
PLAIN = ["-g", str(GROUP), "-q:v", "4"]
VPX = ["-deadline", "realtime", "-cpu-used", "8", "-b:v", "2M", "-g", str(GROUP)]
AV1 = ["-c:v", "libaom-av1", "-usage", "realtime", "-cpu-used", "8", "-g", str(GROUP)]
# The standard's Huffman tables: RTP sends no others.
MJPEG = ["-c:v", "mjpeg", "-huffman", "default", "-q:v", "4", "-pix_fmt", "yuvj420p"]
CONSTANT = ["-b:v", "3M", "-minrate", "3M", "-maxrate", "3M", "-bufsize", "1M"]
LAVFI, PATTERN, SINE = ["-f", "lavfi", "-i"], "testsrc2=size={}:rate=25:duration={}", "sine=frequency=440:duration=3"
PICTURE = [*LAVFI, PATTERN.format("320x240", 2)]
SOUND = [*PICTURE, *LAVFI, SINE, "-c:a", "aac"]
SHORT_SOUND = [*LAVFI, "sine=frequency=440:duration=0.5", "-c:a", "aac"]
BLACK = [*LAVFI, "color=black:size=640x480:rate=25:duration=1"]
FRAGMENTS = ["-movflags", "frag_keyframe+empty_moov+default_base_moof"]
#: Name of the file: arguments of ffmpeg. None of them may give an error.
HEALTHY: dict[str, list[str]] = {
    "h264.mp4": [*PICTURE, *X264],
    "h264-open-groups.mp4": [*PICTURE, "-c:v", "libx264", "-g", "12", "-bf", "3", "-x264-params", "open-gop=1"],
    "h264-intra-refresh.mkv": [*PICTURE, "-c:v", "libx264", "-bf", "0", "-x264-params", "intra-refresh=1:keyint=12"],
    "h264-fragments.mp4": [*PICTURE, *X264, *FRAGMENTS],
    "h264-fragments-sound.mp4": [*SOUND, *X264, "-movflags", "frag_keyframe"],
    "h264-sound-longer.mkv": [*SOUND, *X264],
    "h264-sound-longer.mp4": [*SOUND, *X264],
    "h264-sound-longer.avi": [*SOUND, *X264, "-bf", "0"],
    "h264-sound-longer.flv": [*SOUND, *X264],
    "h264-late.mov": ["-itsoffset", "0.5", *SOUND, *X264],
    "h264-variable.mp4": [*PICTURE, "-vf", "select=lt(n\\,20)+not(mod(n\\,7))", "-vsync", "vfr", *X264],
    "h264-interlaced.ts": [*PICTURE, *X264, "-flags", "+ilme+ildct", "-x264-params", "interlaced=1"],
    "h264-10-bit.mp4": [*PICTURE, *X264, "-pix_fmt", "yuv420p10le"],
    "h264-odd.mkv": [*PICTURE, *X264, "-vf", "scale=321:243", "-pix_fmt", "yuv444p"],
    "h264.h264": [*PICTURE, *X264],
    "h264.m2ts": [*PICTURE, *X264],
    "hevc-10-bit.mkv": [*PICTURE, *X265, "-pix_fmt", "yuv420p10le"],
    "hevc-open-groups.ts": [*PICTURE, "-c:v", "libx265", "-x265-params", "keyint=12:open-gop=1:log-level=none"],
    "hevc.hevc": [*PICTURE, *X265],
    "mpeg4-b-frames.avi": [*PICTURE, "-c:v", "mpeg4", "-bf", "2", *PLAIN],
    "xvid-packed.avi": [*PICTURE, "-c:v", "libxvid", "-bf", "2", *PLAIN],
    "mpeg2.mpg": [*PICTURE, "-c:v", "mpeg2video", "-bf", "2", *PLAIN],
    "vp8-variable.webm": [*PICTURE, "-vf", "select=lt(n\\,10)+gt(n\\,30)", "-vsync", "vfr", "-c:v", "libvpx", *VPX],
    "vp8-hidden-frames.webm": [
        *PICTURE,
        "-c:v",
        "libvpx",
        "-auto-alt-ref",
        "1",
        "-lag-in-frames",
        "16",
        "-cpu-used",
        "5",
    ],
    "vp9.webm": [*PICTURE, "-c:v", "libvpx-vp9", *VPX],
    "vp9-no-duration.webm": [*PICTURE, "-c:v", "libvpx-vp9", *VPX, "-live", "1"],
    "av1.mp4": [*PICTURE, *AV1],
    "theora.ogv": [*PICTURE, "-c:v", "libtheora", "-q:v", "6"],
    "mjpeg.mjpg": [*PICTURE, *MJPEG],
    "mjpeg-422.avi": [*PICTURE, "-c:v", "mjpeg", "-q:v", "4", "-pix_fmt", "yuvj422p"],
    "mjpeg-limited-range.mkv": [*PICTURE, "-c:v", "mjpeg", "-pix_fmt", "yuv422p", "-strict", "unofficial"],
    "mjpeg-444-own-tables.mov": [*PICTURE, "-c:v", "mjpeg", "-huffman", "optimal", "-pix_fmt", "yuvj444p"],
    "ffv1.mkv": [*PICTURE, "-c:v", "ffv1", "-level", "3"],
    "prores.mov": [*PICTURE, "-c:v", "prores"],
    "wmv2.wmv": [*PICTURE, "-c:v", "wmv2"],
    "raw.y4m": PICTURE,
    "one-frame.mp4": [*PICTURE, *X264, "-frames:v", "1"],
    "one-frame.mkv": [*PICTURE, "-c:v", "mjpeg", "-pix_fmt", "yuvj420p", "-frames:v", "1"],
    "h264-sound-shorter.mp4": [*PICTURE, *SHORT_SOUND, *X264],
    "h264-sound-shorter.ts": [*PICTURE, *SHORT_SOUND, *X264],
    "h264-sound-longer.ts": [*SOUND, *X264],
    "h264-sound-longer-cmaf.mp4": [*SOUND, *X264, "-movflags", "cmaf"],
    "h264-fragment-each-frame.mp4": [*PICTURE, *X264, "-movflags", "frag_every_frame+empty_moov"],
    "h264-fragments-no-end.mp4": [*PICTURE, *X264, "-movflags", "frag_keyframe+empty_moov+skip_trailer"],
    "h264-late.ts": ["-itsoffset", "5", *SOUND, *X264],
    "h264-filler.h264": [*PICTURE, *X264, "-x264-params", "nal-hrd=cbr:filler=1", *CONSTANT],
    "h264-slow.mkv": [*LAVFI, "testsrc2=size=320x240:rate=1/3:duration=12", *X264],
    "h264-variable.ts": [*PICTURE, "-vf", "select=lt(n\\,20)+not(mod(n\\,7))", "-vsync", "vfr", *X264],
    "h264-two-videos.mkv": [*PICTURE, *LAVFI, PATTERN.format("160x120", 4), "-map", "0", "-map", "1", *X264],
    "h264-turned.mp4": [*PICTURE, *X264, "-metadata:s:v", "rotate=90"],
    "h264-black.ts": [*LAVFI, "color=black:size=640x480:rate=25:duration=2", *X264],
    "mpeg2-sound-longer.mpg": [*PICTURE, *LAVFI, SINE, "-c:v", "mpeg2video", "-c:a", "mp2"],
    "mpeg4-variable.avi": [
        *PICTURE,
        "-vf",
        "select=lt(n\\,20)+not(mod(n\\,7))",
        "-vsync",
        "vfr",
        "-c:v",
        "mpeg4",
        *PLAIN,
    ],
    "vp9-black.webm": [*LAVFI, "color=black:size=640x480:rate=25:duration=2", "-c:v", "libvpx-vp9", *VPX],
    "av1-variable.webm": [*PICTURE, "-vf", "select=lt(n\\,20)+not(mod(n\\,7))", "-vsync", "vfr", *AV1],
    "theora-sound-longer.ogv": [*PICTURE, *LAVFI, SINE, "-c:v", "libtheora", "-c:a", "libvorbis"],
    "mjpeg-black-own-tables.mov": [*BLACK, "-c:v", "mjpeg", "-huffman", "optimal", "-pix_fmt", "yuvj420p"],
}
