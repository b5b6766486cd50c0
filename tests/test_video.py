import logging
import os
import struct
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from det_core.media.frame_map import FrameMap
from det_core.media.video import VideoFile, as_uint8, choose_frames, read_video, write_video


def gradient_video(frames, height, width):
    """Smooth, so that compression changes little: red grows to the right, green downwards, blue in time."""
    video = torch.zeros(frames, height, width, 3)
    video[..., 0] = torch.linspace(0.1, 0.9, width)
    video[..., 1] = torch.linspace(0.1, 0.9, height)[:, None]
    video[..., 2] = torch.linspace(0.2, 0.8, frames)[:, None, None]
    return video


@pytest.mark.parametrize(
    ("height", "width", "shape", "factor"),
    [(256, 320, (256, 320), 1), (64, 64, (256, 256), 4), (33, 50, (264, 400), 8), (257, 301, (258, 302), 1)],
)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_written_video_reads_back(tmp_path, height, width, shape, factor, dtype):
    frames = gradient_video(5, height, width)
    given = as_uint8(frames) if dtype == torch.uint8 else frames
    write_video(tmp_path / "a.mp4", given, 8)
    video = read_video(tmp_path / "a.mp4")
    assert video.frames.shape == (5, *shape, 3) and video.frames.dtype == torch.uint8
    assert video.fps == pytest.approx(8)
    inside = video.frames[:, : height * factor, : width * factor].float()
    expected = as_uint8(frames).repeat_interleave(factor, 1).repeat_interleave(factor, 2).float()
    assert (inside - expected).abs().mean() < 6
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264" and stream.codec_context.pix_fmt == "yuv420p"
    assert os.listdir(tmp_path) == ["a.mp4"]


@pytest.mark.parametrize("fps", [8, 29.97, 23.976, 60])
def test_frame_rates_survive(tmp_path, fps):
    write_video(tmp_path / "a.mp4", torch.zeros(3, 256, 256, 3), fps)
    assert read_video(tmp_path / "a.mp4").fps == pytest.approx(fps, rel=1e-3)


@pytest.mark.parametrize(
    ("matrix", "lying"),  # (a, b, c, d): a pixel at (x, y) is shown at (a x + c y, b x + d y)
    [
        ((0, 1, -1, 0), lambda upright: torch.rot90(upright, 1, (1, 2))),  # a phone: a quarter clockwise
        ((0, -1, 1, 0), lambda upright: torch.rot90(upright, -1, (1, 2))),
        ((-1, 0, 0, -1), lambda upright: upright.flip(1, 2)),
        ((-1, 0, 0, 1), lambda upright: upright.flip(2)),  # a selfie: mirrored
        ((1, 0, 0, -1), lambda upright: upright.flip(1)),
        ((0, 1, 1, 0), lambda upright: upright.transpose(1, 2)),
        ((0, -1, -1, 0), lambda upright: upright.flip(1, 2).transpose(1, 2)),
    ],
)
def test_turned_and_mirrored_videos_are_read_upright(tmp_path, matrix, lying):
    upright = gradient_video(3, 320, 256)
    write_video(tmp_path / "a.mp4", lying(upright), 8)
    content = bytearray((tmp_path / "a.mp4").read_bytes())
    at = content.index(b"tkhd") + 44  # after version, times, track, duration, layer, volume
    assert struct.unpack(">9i", content[at : at + 36])[0] == 65536
    a, b, c, d = (65536 * value for value in matrix)
    content[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    (tmp_path / "turned.mp4").write_bytes(content)
    frames = read_video(tmp_path / "turned.mp4").frames
    assert frames.shape == (3, 320, 256, 3)
    assert (frames.float() - as_uint8(upright).float()).abs().mean() < 6


def numbered(count, height=256, width=256):
    """Grey frames, each a step lighter."""
    return (torch.arange(count) * (250 // count)).to(torch.uint8)[:, None, None, None].expand(-1, height, width, 3)


def write_at(path, frames, times_ms):
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=1000, options={"crf": "10"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt, stream.time_base = "yuv420p", Fraction(1, 1000)
        for picture, time in zip(frames, times_ms, strict=True):
            frame = av.VideoFrame.from_ndarray(picture.contiguous().numpy(), format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def shown(frames, count):
    """Which of `numbered(count)` each frame is."""
    return (frames.float().mean((1, 2, 3)) / (250 // count)).round().int().tolist()


def test_frames_of_an_uneven_clock_are_read_at_an_even_one(tmp_path, caplog):
    """A motion keeps its speed: what a phone shows for three ticks is there three times."""
    write_at(tmp_path / "a.mp4", numbered(10), [0, 100, 200, 300, 600, 700, 800, 900, 1200, 1300])
    with caplog.at_level(logging.WARNING):
        video = read_video(tmp_path / "a.mp4")
    assert video.fps == pytest.approx(10, rel=0.01) and "unequal times" in caplog.text
    assert shown(video.frames, 10) == [0, 1, 2, 3, 3, 3, 4, 5, 6, 7, 7, 7, 8, 9]


def test_a_trembling_clock_is_an_even_one(tmp_path, caplog):
    write_at(tmp_path / "a.mp4", numbered(10), [0, 104, 197, 301, 396, 505, 600, 699, 804, 900])
    with caplog.at_level(logging.WARNING):
        video = read_video(tmp_path / "a.mp4")
    assert video.fps == pytest.approx(10, rel=0.01) and not caplog.text
    assert shown(video.frames, 10) == list(range(10))


def test_chosen_frames_are_read_alone(tmp_path):
    write_video(tmp_path / "a.mp4", numbered(20), 8)
    file = VideoFile.open(tmp_path / "a.mp4")
    assert (file.frames, file.height, file.width, file.fps) == (20, 256, 256, 8)
    assert shown(file.read(range(3, 20, 5)), 20) == [3, 8, 13, 18]


@pytest.mark.slow
def test_reading_takes_the_memory_of_what_is_read(tmp_path):
    """240 frames of 1280x720 are 664 MB: all of them take that, a tenth of them a tenth."""
    code = f"""
import resource, sys, torch
from det_core.media.video import VideoFile, write_video
path = {str(tmp_path / "hd.mp4")!r}
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
if sys.argv[1] == "write":
    write_video(path, torch.zeros(1, 720, 1280, 3, dtype=torch.uint8).expand(240, -1, -1, -1), 30)
else:
    file = VideoFile.open(path)
    before = peak()
    file.read(range(0, 240, int(sys.argv[1])))
    print(peak() - before)
"""
    grown = {}
    for argument in ("write", "1", "10"):
        command = [sys.executable, "-c", code, argument]
        outcome = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True)
        grown[argument] = float(outcome.stdout or 0)
    assert grown["1"] < 760 and grown["10"] < 150, grown


def test_tags_of_another_encoding_do_not_matter(tmp_path):
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        container.metadata["title"] = "TITLETITLE"
        stream = container.add_stream("mpeg4", rate=8)
        stream.width, stream.height = 32, 32
        picture = np.zeros((32, 32, 3), np.uint8)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode())
    written = (tmp_path / "a.mkv").read_bytes()
    assert b"TITLETITLE" in written
    (tmp_path / "a.mkv").write_bytes(written.replace(b"TITLETITLE", b"\xe9" * 10))
    assert len(read_video(tmp_path / "a.mkv").frames) == 1


def test_a_cover_picture_is_not_the_video(tmp_path):
    """A file may hold stills beside its video, and in front of it."""
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        cover = container.add_stream("png", rate=1)
        cover.width = cover.height = 64
        cover.pix_fmt = "rgb24"
        cover.disposition = av.stream.Disposition.attached_pic
        moving = container.add_stream("libx264", rate=8)
        moving.width = moving.height = 256
        moving.pix_fmt = "yuv420p"
        container.mux(cover.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")))
        for picture in numbered(4):
            container.mux(moving.encode(av.VideoFrame.from_ndarray(picture.contiguous().numpy(), format="rgb24")))
        container.mux(moving.encode())
    assert read_video(tmp_path / "a.mp4").frames.shape == (4, 256, 256, 3)


def test_transparent_frames_lie_over_black(tmp_path):
    pictures = np.full((3, 64, 64, 4), 255, np.uint8)
    pictures[:, :, 32:, 3] = 0  # white that is not there
    with av.open(str(tmp_path / "a.mov"), "w") as container:
        stream = container.add_stream("qtrle", rate=8)
        stream.width = stream.height = 64
        stream.pix_fmt = "argb"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgba").reformat(format="argb")))
        container.mux(stream.encode())
    frames = read_video(tmp_path / "a.mov").frames
    assert (frames[:, :, :32] == 255).all() and (frames[:, :, 32:] == 0).all()


@pytest.mark.parametrize("name", ["a:b.mp4", "http:x.mp4", "50%d.mp4", "猫🐼.mp4", "-.mp4", "a\udcff.mp4"])
def test_a_name_is_only_a_name(tmp_path, name):
    write_video(tmp_path / "a.mp4", numbered(3), 8)
    try:
        (tmp_path / "a.mp4").rename(tmp_path / name)
    except OSError:
        pytest.skip("this file system has no such name")
    assert len(read_video(tmp_path / name).frames) == 3


def test_a_playlist_opens_nothing(tmp_path):
    write_video(tmp_path / "a.mp4", numbered(3), 8)
    (tmp_path / "list.mp4").write_text(f"ffconcat version 1.0\nfile '{tmp_path / 'a.mp4'}'\n")
    (tmp_path / "hls.mp4").write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{tmp_path / 'a.mp4'}\n")
    for name in ("list.mp4", "hls.mp4"):
        with pytest.raises(ValueError, match=name):
            read_video(tmp_path / name)


def test_what_is_no_video(tmp_path):
    (tmp_path / "text.mp4").write_text("not a video")
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "pictures").mkdir()
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 16000
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    for name, message in [
        ("missing.mp4", "no such video"),
        ("text.mp4", "not a video that can be read"),
        ("pictures", "is a folder: give a video file"),
        ("empty.mp4", "not a video that can be read"),
        ("sound.mp4", "no picture in it"),
    ]:
        with pytest.raises(ValueError, match=message) as caught:
            read_video(tmp_path / name)
        assert name in str(caught.value) and "\n" not in str(caught.value)


def test_cut_off_video_is_refused(tmp_path):
    write_video(tmp_path / "a.mp4", torch.rand(20, 256, 256, 3), 8)
    whole = (tmp_path / "a.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[:200])
    with pytest.raises(ValueError, match="cut.mp4"):
        read_video(tmp_path / "cut.mp4")


def test_too_long_video_is_refused(tmp_path, monkeypatch):
    write_video(tmp_path / "a.mp4", torch.zeros(9, 256, 256, 3), 8)
    monkeypatch.setattr("det_core.media.video.MOST_BYTES", 5 * 256 * 256 * 3)
    with pytest.raises(ValueError, match="a.mp4 is too long to hold in memory: 6 frames of 256x256"):
        read_video(tmp_path / "a.mp4")


def test_write_errors(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"earlier")
    with pytest.raises(ValueError, match=r"got \(3, 8, 8\)"):
        write_video(tmp_path / "a.mp4", torch.zeros(3, 8, 8), 8)
    with pytest.raises(ValueError, match="0 frames per second"):
        write_video(tmp_path / "a.mp4", torch.zeros(3, 8, 8, 3), 0)
    with pytest.raises(OSError, match="b.mp4"):
        write_video(tmp_path / "a.mp4" / "b.mp4", torch.zeros(3, 8, 8, 3), 8)
    assert (tmp_path / "a.mp4").read_bytes() == b"earlier"


@pytest.mark.parametrize(
    ("available", "count", "expected"),
    [
        (49, 49, list(range(49))),
        (97, 49, list(range(49))),
        (98, 49, list(range(0, 98, 2))),
        (150, 49, list(range(0, 147, 3))),
        (9, 9, list(range(9))),
    ],
)
def test_frames_are_chosen_with_a_stride_from_the_start(available, count, expected):
    assert list(choose_frames(available, count, codec=FrameMap((1,), (4,)))) == expected


@pytest.mark.parametrize(
    ("available", "count", "compression", "message"),
    [
        (20, 49, 4, "the model needs 4k+1 = 49 frames; clip.mp4 has 20: use a longer clip or ask for 17 frames"),
        (1, 9, 4, "the model needs 4k+1 = 9 frames; clip.mp4 has 1: use a longer clip"),
        (5, 9, 1, "the model needs 9 frames; clip.mp4 has 5: use a longer clip or ask for 5 frames"),
        (0, 9, 4, "the model needs 4k+1 = 9 frames; clip.mp4 has 0: use a longer clip"),
        (99, 48, 4, "the model needs 4k+1 frames, not 48: ask for 45 or 49 frames"),
        (99, 1, 4, "one frame has no motion: ask for 5 frames or more"),
        (99, 0, 4, "the model needs 4k+1 frames, not 0: ask for 1 frames"),
    ],
)
def test_too_few_frames_say_what_to_do(available, count, compression, message):
    with pytest.raises(ValueError) as caught:
        choose_frames(available, count, codec=FrameMap((1,), (compression,)), name="clip.mp4")
    assert str(caught.value) == message
