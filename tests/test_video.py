import logging
import os
import struct

import av
import numpy as np
import pytest
import torch
from PIL import Image

from det_core.media.frame_map import FrameMap
from det_core.media.video import as_uint8, fit_frames, read_mask, read_video, write_video


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


def test_turned_video_is_read_upright(tmp_path):
    """A phone writes the picture lying and a matrix that turns it a quarter clockwise."""
    upright = gradient_video(3, 320, 256)
    write_video(tmp_path / "a.mp4", torch.rot90(upright, 1, (1, 2)), 8)  # lying: turned counterclockwise
    content = bytearray((tmp_path / "a.mp4").read_bytes())
    matrix = content.index(b"tkhd") + 44  # after version, times, track, duration, layer, volume
    assert struct.unpack(">9i", content[matrix : matrix + 36])[0] == 65536
    content[matrix : matrix + 36] = struct.pack(">9i", 0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)
    (tmp_path / "turned.mp4").write_bytes(content)
    frames = read_video(tmp_path / "turned.mp4").frames
    assert frames.shape == (3, 320, 256, 3)
    assert (frames.float() - as_uint8(upright).float()).abs().mean() < 6


def test_what_is_no_video(tmp_path):
    (tmp_path / "text.mp4").write_text("not a video")
    (tmp_path / "empty.mp4").write_bytes(b"")
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 16000
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    for name, message in [
        ("missing.mp4", "no such video"),
        ("text.mp4", "not a video that can be read"),
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


def save_mask(path, array):
    Image.fromarray(array).save(path)


def test_masks_are_binarised(tmp_path, caplog):
    truth = torch.zeros(6, 10, dtype=torch.bool)
    truth[2:4, 3:8] = True
    grey = np.where(truth.numpy(), 128, 127).astype(np.uint8)
    save_mask(tmp_path / "grey.png", grey)
    save_mask(tmp_path / "rgb.png", np.repeat(grey[..., None], 3, -1))
    indexed = Image.new("P", (10, 6))
    indexed.putdata(truth.flatten().int().tolist())
    indexed.putpalette([0, 0, 0, 128, 0, 0] + [0] * 750)  # as DAVIS: subject 1 is dark red
    indexed.save(tmp_path / "davis.png")
    Image.fromarray(np.where(truth.numpy(), 40000, 100).astype(np.uint16)).save(tmp_path / "deep.png")
    with caplog.at_level(logging.WARNING):
        for name in ("grey.png", "rgb.png", "davis.png", "deep.png"):
            assert torch.equal(read_mask(tmp_path / name, 6, 10), truth), name
    assert not caplog.text


def test_mask_of_another_size_is_resized(tmp_path, caplog):
    array = np.zeros((4, 6), np.uint8)
    array[1:3, 2:4] = 255
    save_mask(tmp_path / "a.png", array)
    with caplog.at_level(logging.WARNING):
        mask = read_mask(tmp_path / "a.png", 8, 12)
    assert "6x4, the video 12x8: resized" in caplog.text
    assert torch.equal(mask, torch.from_numpy(array > 0).repeat_interleave(2, 0).repeat_interleave(2, 1))


def test_folder_of_masks_gives_the_first(tmp_path):
    for number, value in ((1, 255), (0, 200)):
        array = np.zeros((4, 4), np.uint8)
        array[number, number] = value
        save_mask(tmp_path / f"{number:05d}.png", array)
    assert read_mask(tmp_path, 4, 4).nonzero().tolist() == [[0, 0]]


def test_bad_masks(tmp_path):
    save_mask(tmp_path / "black.png", np.full((4, 4), 90, np.uint8))
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "folder").mkdir()
    for name, message in [
        ("black.png", "is empty: nothing in it is white"),
        ("text.png", "not a picture"),
        ("folder", "has no .png in it"),
        ("missing.png", "no such mask"),
    ]:
        with pytest.raises(ValueError, match=message) as caught:
            read_mask(tmp_path / name, 4, 4)
        assert name in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("available", "count", "expected"),
    [
        (49, 49, list(range(49))),
        (97, 49, list(range(49))),
        (98, 49, list(range(0, 98, 2))),
        (150, 49, list(range(0, 147, 3))),
        (9, 9, list(range(9))),
        (5, 1, [0]),
    ],
)
def test_frames_are_chosen_with_a_stride_from_the_start(available, count, expected):
    assert fit_frames(torch.arange(available), count, codec=FrameMap((1,), (4,))).tolist() == expected


@pytest.mark.parametrize(
    ("available", "count", "compression", "message"),
    [
        (20, 49, 4, "the model needs 4k+1 = 49 frames; clip.mp4 has 20: use a longer clip or ask for 17 frames"),
        (1, 9, 4, "the model needs 4k+1 = 9 frames; clip.mp4 has 1: use a longer clip or ask for 1 frames"),
        (5, 9, 1, "the model needs 9 frames; clip.mp4 has 5: use a longer clip or ask for 5 frames"),
        (0, 9, 4, "the model needs 4k+1 = 9 frames; clip.mp4 has 0: use a longer clip"),
        (99, 48, 4, "the model needs 4k+1 frames, not 48: ask for 45 or 49 frames"),
        (99, 0, 4, "the model needs 4k+1 frames, not 0: ask for 1 frames"),
    ],
)
def test_too_few_frames_say_what_to_do(available, count, compression, message):
    with pytest.raises(ValueError) as caught:
        fit_frames(torch.arange(available), count, codec=FrameMap((1,), (compression,)), name="clip.mp4")
    assert str(caught.value) == message
