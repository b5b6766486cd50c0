import io
import os
import pickle
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from det_core.tracking.tracks import Tracks


def some_tracks(count=5, frames=9, seed=0, tracker="dis"):
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(count, frames, 2, generator=generator) * 1.4 - 0.2
    visible = torch.rand(count, frames, generator=generator) > 0.4
    return Tracks(points, visible, tracker)


def same(a, b):
    return torch.equal(a.points, b.points) and torch.equal(a.visible, b.visible) and a.tracker == b.tracker


@pytest.mark.parametrize(
    ("points", "visible", "message"),
    [
        (torch.zeros(3, 4), torch.ones(3, 4), r"\(points, frames, 2\), got \(3, 4\)"),
        (torch.zeros(3, 4, 3), torch.ones(3, 4), r"got \(3, 4, 3\)"),
        (torch.zeros(3, 4, 2), torch.ones(4, 3), r"\(3, 4\).*\(4, 3\)"),
        (torch.full((1, 1, 2), float("nan")), torch.ones(1, 1), "NaN"),
        (torch.full((1, 1, 2), float("inf")), torch.ones(1, 1), "infinite"),
        (torch.zeros(0, 4, 2), torch.ones(0, 4), "empty: 0 points"),
        (torch.zeros(4, 0, 2), torch.ones(4, 0), "over 0 frames"),
    ],
)
def test_refuses_what_are_no_tracks(points, visible, message):
    with pytest.raises(ValueError, match=message):
        Tracks(points, visible)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.int64])
def test_keeps_float32_and_bool(dtype):
    tracks = Tracks(torch.ones(2, 3, 2, dtype=dtype), torch.tensor([[0.0, 0.4, 1.0], [1.0, 1.0, 0.6]]))
    assert tracks.points.dtype == torch.float32 and tracks.visible.dtype == torch.bool
    assert tracks.visible.tolist() == [[False, False, True], [True, True, True]]


@pytest.mark.parametrize(
    ("frames", "latent_frames", "expected"),
    [
        (49, 13, list(range(0, 49, 4))),
        (9, 9, list(range(9))),
        (9, 3, [0, 4, 8]),
        (1, 1, [0]),
        (5, 1, [0]),
        (50, 13, [0, 4, 8, 12, 16, 20, 25, 29, 33, 37, 41, 45, 49]),  # 49/12 is not whole: nearest
    ],
)
def test_latent_frame_reads_the_right_video_frame(frames, latent_frames, expected):
    time = torch.arange(frames) / frames
    tracks = Tracks(torch.stack([time, time], -1)[None], torch.ones(1, frames))
    points, visible = tracks.to_grid(latent_frames, 10, frames)
    assert points.shape == (1, latent_frames, 2) and visible.all()
    assert points[0, :, 0].round().long().tolist() == expected


def test_grid_puts_the_centre_of_the_first_cell_at_a_half():
    height, width = 60, 90
    first, last = (0.5 / width, 0.5 / height), ((width - 0.5) / width, (height - 0.5) / height)
    points, _ = Tracks(torch.tensor([[first], [last]]), torch.ones(2, 1)).to_grid(1, height, width)
    assert torch.allclose(points[:, 0], torch.tensor([[0.5, 0.5], [89.5, 59.5]]), atol=1e-4)


def test_points_outside_the_grid_are_hidden():
    x = torch.tensor([-0.01, 0.0, 0.5, 0.999, 1.0, 1.2])
    tracks = Tracks(torch.stack([x, torch.full_like(x, 0.5)], -1)[:, None], torch.ones(6, 1))
    _, visible = tracks.to_grid(1, 7, 11)
    assert visible[:, 0].tolist() == [False, True, True, True, False, False]


def test_too_few_frames_for_the_latent():
    with pytest.raises(ValueError, match="9 frames, too few for 13 latent frames"):
        some_tracks(frames=9).to_grid(13, 4, 4)


@pytest.mark.parametrize("frames", [1, 2, 5, 9, 17, 50])
def test_resample_takes_the_nearest_frame(frames):
    tracks = some_tracks(frames=9)
    result = tracks.resample(frames)
    for i in range(frames):
        exact = i * 8 / (frames - 1) if frames > 1 else 0.0
        distance = [abs(t - exact) for t in range(9)]
        taken = [t for t in range(9) if torch.equal(tracks.points[:, t], result.points[:, i])]
        assert distance[taken[0]] == pytest.approx(min(distance))
        assert torch.equal(result.visible[:, i], tracks.visible[:, taken[0]])
    assert result.frames == frames and result.tracker == "dis"


def test_comfy_round_trip():
    tracks = some_tracks()
    value = tracks.to_comfy(720, 480)
    assert value["track_path"].shape == (9, 5, 2) and value["track_visibility"].dtype == torch.bool
    assert value["track_path"][3, 2].tolist() == pytest.approx(
        [float(tracks.points[2, 3, 0]) * 720, float(tracks.points[2, 3, 1]) * 480], rel=1e-5
    )
    back = Tracks.from_comfy(value, 720, 480)
    assert torch.allclose(back.points, tracks.points, atol=1e-6)
    assert torch.equal(back.visible, tracks.visible) and back.tracker == "dis"


@pytest.mark.parametrize(
    "visibility",
    [
        torch.tensor([1.0, 0.0, 1.0]),
        torch.tensor([[True], [False], [True]]),
        np.array([[1.0] * 4, [0.0] * 4, [1.0] * 4]),
    ],
)
def test_comfy_visibility_is_broadcast(visibility):
    tracks = Tracks.from_comfy({"track_path": np.zeros((3, 4, 2)), "track_visibility": visibility}, 8, 8)
    assert tracks.visible.tolist() == [[True, False, True]] * 4


def test_comfy_without_visibility_is_visible():
    assert Tracks.from_comfy({"track_path": torch.zeros(3, 4, 2)}, 8, 8).visible.all()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1, 2], "not a TRACKS value"),
        ({"paths": 1}, "not a TRACKS value"),
        ({"track_path": torch.zeros(3, 4)}, r"\(frames, points, 2\), got \(3, 4\)"),
        ({"track_path": torch.zeros(3, 4, 2), "track_visibility": torch.ones(4, 3)}, r"\(4, 3\) does not belong"),
    ],
)
def test_comfy_refuses_other_values(value, message):
    with pytest.raises(ValueError, match=message):
        Tracks.from_comfy(value, 8, 8)


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_file_round_trip(tmp_path, suffix):
    tracks, path = some_tracks(), tmp_path / f"tracks{suffix}"
    tracks.save(path, {"source": "clip.mp4", "size": "720x480"})
    assert same(Tracks.load(path), tracks)
    assert os.listdir(tmp_path) == [path.name]
    if suffix == ".safetensors":
        with safe_open(path, framework="pt") as file:
            header = file.metadata()
        assert header["tracker"] == "dis" and header["frames"] == "9" and header["points"] == "5"
        assert header["source"] == "clip.mp4" and header["size"] == "720x480"


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_query_frames_travel_with_the_points(tmp_path, suffix):
    asked = torch.tensor([0, 3, 8, 0, 5])
    tracks = replace(some_tracks(), query_frames=asked)
    tracks.save(tmp_path / f"tracks{suffix}")
    assert torch.equal(Tracks.load(tmp_path / f"tracks{suffix}").query_frames, asked)
    assert torch.equal(Tracks.from_comfy(tracks.to_comfy(720, 480), 720, 480).query_frames, asked)
    assert some_tracks().to_comfy(720, 480).keys() == {"track_path", "track_visibility", "tracker"}  # unknown: none
    places, frames = tracks.queries()
    assert torch.equal(frames, asked) and torch.equal(places[2], tracks.points[2, 8].clamp(0, 1))
    assert tracks.at(range(0, 9, 4)).query_frames.tolist() == [0, 1, 2, 0, 1]  # the nearest of 0, 4, 8
    assert tracks.resample(17).query_frames.tolist() == [0, 5, 15, 0, 9]
    assert tracks.only(asked > 3).query_frames.tolist() == [8, 5]
    joined = Tracks.joined([some_tracks(), tracks.only(asked == 8)])
    assert joined.query_frames.tolist() == [0, 0, 0, 0, 0, 8] and len(joined) == 6


@pytest.mark.parametrize("asked", [torch.zeros(4), torch.zeros(4, dtype=torch.long), torch.tensor([0, 0, 9, 0, 0])])
def test_refuses_query_frames_that_are_none(asked):
    with pytest.raises(ValueError, match="query frame"):
        replace(some_tracks(), query_frames=asked)


def test_reads_the_mtbench_layouts(tmp_path):
    tracks = some_tracks(tracker="")
    numbers = tracks.points.transpose(0, 1).numpy(), tracks.visible.T.numpy()
    np.savez(tmp_path / "a.npz", tracks=numbers[0], visible=numbers[1], query_frame=np.int64(1))
    torch.save(torch.from_numpy(np.concatenate([numbers[0], numbers[1][..., None]], -1)), tmp_path / "a.pth")
    assert same(Tracks.load(tmp_path / "a.npz"), tracks)
    assert same(Tracks.load(tmp_path / "a.pth"), tracks)


def test_reads_the_real_tracks(shared_data):
    tracks = Tracks.load(shared_data / "mtbench" / "dance-twirl" / "trajectories.npz")
    assert len(tracks) == 100 and tracks.frames == 49
    assert tracks.visible[:, 1].all() and 0.34 < tracks.visible.float().mean() < 0.36
    pixels = tracks.points[:, 1] * torch.tensor([1920.0, 1088.0])
    assert (pixels - pixels.round()).abs().max() < 2e-3  # queries were whole pixels of that size


class Hostile:
    def __reduce__(self):
        return os.system, ("touch hostile-was-here",)


def test_hostile_and_damaged_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hostile.pth").write_bytes(pickle.dumps(Hostile()))
    torch.save({"x": Hostile()}, tmp_path / "zip.pth")
    torch.save({"x": 1}, tmp_path / "dict.pth")
    torch.save(torch.zeros(3, 4, 2), tmp_path / "shape.pth")
    np.savez(tmp_path / "objects.npz", points=np.array([Hostile()], dtype=object), visible=np.zeros(1))
    np.savez(tmp_path / "other.npz", weights=np.zeros(3))
    some_tracks().save(tmp_path / "good.safetensors")
    whole = (tmp_path / "good.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04 no more")
    (tmp_path / "empty.npz").write_bytes(b"")
    (tmp_path / "tracks.txt").write_text("1 2 3")
    names = [
        "hostile.pth",
        "zip.pth",
        "dict.pth",
        "shape.pth",
        "objects.npz",
        "other.npz",
        "cut.safetensors",
        "cut.npz",
    ]
    for name in [*names, "empty.npz", "tracks.txt", "missing.npz"]:
        with pytest.raises(ValueError, match=name) as caught:
            Tracks.load(tmp_path / name)
        assert "\n" not in str(caught.value), name
    assert not (tmp_path / "hostile-was-here").exists()


@pytest.mark.parametrize(
    ("name", "points", "visible"),
    [
        ("text.npz", np.array([["a"]]), np.ones((1, 1))),
        ("complex.npz", np.zeros((2, 3, 2), complex), np.ones((2, 3))),
        ("dates.npz", np.zeros((2, 3, 2), "datetime64[s]"), np.ones((2, 3))),
        ("complex.safetensors", torch.zeros(2, 3, 2, dtype=torch.complex64), torch.ones(2, 3)),
    ],
)
def test_tracks_are_real_numbers(tmp_path, name, points, visible):
    path = tmp_path / name
    if path.suffix == ".npz":
        np.savez(path, points=points, visible=visible)
    else:
        save_file({"points": points, "visible": visible}, path)
    with pytest.raises(ValueError, match=name) as caught:
        Tracks.load(path)
    assert "\n" not in str(caught.value)


def test_files_that_would_fill_the_memory_are_refused_by_their_headers(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**9, 500, 2)})
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w") as archive:
        archive.writestr("points.npy", header.getvalue())
        archive.writestr("visible.npy", header.getvalue())
    torch.save(torch.zeros(1).expand(20000, 20000, 3), tmp_path / "stride.pth")
    for name in ("bomb.npz", "stride.pth"):
        with pytest.raises(ValueError, match=f"{name}.*(too large|no plain)"):
            Tracks.load(tmp_path / name)


def test_save_refuses_other_suffixes(tmp_path):
    with pytest.raises(ValueError, match=".safetensors or .npz"):
        some_tracks().save(tmp_path / "tracks.pkl")
