"""TRACKS as the core's nodes and as spline editors know them, in both directions."""

from __future__ import annotations

import json

import pytest
import torch
from graphs import TRAIN, only, training


def value(frames: int = 5, points: int = 3) -> dict:
    path = 64 * torch.rand(frames, points, 2, generator=torch.Generator().manual_seed(0))
    return {"track_path": path, "track_visibility": torch.ones(frames, points, dtype=torch.bool)}


@pytest.fixture
def converters(pack):
    from det_pack.nodes.tracks_json import DeTTracksFromJSON, DeTTracksToJSON

    return DeTTracksToJSON, DeTTracksFromJSON


def test_json_and_back(converters):
    to_json, from_json = converters
    tracks = value()
    whole, listed = to_json.execute(tracks, 0).args
    assert json.loads(whole) == [json.loads(text) for text in listed]
    for texts in ([whole], listed):
        back = from_json.execute(texts).args[0]
        assert (back["track_path"] - tracks["track_path"]).abs().max() <= 0.5
        assert back["track_visibility"].shape == (5, 3) and back["track_visibility"].all()


def test_resampled_in_time(converters):
    to_json, _ = converters
    whole, _ = to_json.execute(value(), 121).args
    tracks = json.loads(whole)
    assert len(tracks) == 3 and all(len(track) == 121 for track in tracks)
    first = value()["track_path"][0, 0].round()
    assert (tracks[0][0]["x"], tracks[0][0]["y"]) == (first[0], first[1])


def test_the_core_reads_our_json(converters, pack):
    from comfy_extras.nodes_wan import parse_json_tracks

    whole, listed = converters[0].execute(value(), 0).args
    assert parse_json_tracks(whole) == parse_json_tracks(listed) == json.loads(whole)


@pytest.mark.parametrize(
    "text, message",
    {
        "not json": "this is no track JSON",
        '[[{"x": 1}]]': "this is no track JSON",
        "[]": "there is no track in this JSON",
        '[[{"x": 1, "y": 2}], [{"x": 1, "y": 2}, {"x": 1, "y": 2}]]': "different numbers of frames",
    }.items(),
)
def test_bad_json(converters, text, message):
    with pytest.raises(ValueError, match=message):
        converters[1].execute([text])


def test_trains_on_tracks_of_the_core(server):
    graph = training()
    settings = server.get("/object_info/GenerateTracks")["GenerateTracks"]["input"]["required"]
    inputs = {name: spec[1].get("default") for name, spec in settings.items() if "default" in spec[1]}
    inputs |= {"width": 64, "height": 64, "num_frames": 9, "interpolation": "linear"}
    graph["90"] = {"class_type": "GenerateTracks", "inputs": inputs}
    only(graph, TRAIN)["tracks"] = ["90", 0]
    server.run(graph)


def test_the_core_draws_our_tracks(server):
    graph = training()
    (track_id,) = [k for k, node in graph.items() if node["class_type"] == "DeTTrackVideo"]
    frames = only(graph, "DeTTrackVideo")["frames"]
    video = ("LoadVideo", "GetVideoComponents", "DeTLoadDiT", "DeTFitVideo")
    wanted = {k: node for k, node in graph.items() if node["class_type"] in video}
    wanted[track_id] = graph[track_id]
    wanted["90"] = {
        "class_type": "WanMoveVisualizeTracks",
        "inputs": {
            "images": frames,
            "tracks": [track_id, 0],
            "line_resolution": 24,
            "circle_size": 2,
            "opacity": 0.75,
            "line_width": 2,
        },
    }
    wanted["91"] = {"class_type": "PreviewImage", "inputs": {"images": ["90", 0]}}
    assert len(server.run(wanted)["91"]["images"]) == 9


def test_a_clip_is_brought_to_the_models_rate_and_length(pack, monkeypatch):
    """60 frames at 30 a second on Wan, which has 16; a clip that is longer than asked is cut or thinned."""
    from det_pack.nodes.fit import DeTFitVideo
    from small_models import CASES

    said = []
    monkeypatch.setattr("det_pack.nodes.fit.say", said.append)
    patcher = CASES["Wan 2.1 T2V, Wan 2.2 A14B T2V"].model()
    video = (torch.arange(60) / 60).view(60, 1, 1, 1).expand(60, 16, 16, 3)

    def fitted(**more):
        frames, latent, fps = DeTFitVideo.execute(patcher, video, 16, 16, more.pop("length", 0), "crop", **more).args
        assert latent["samples"].shape[2] == (len(frames) - 1) // 4 + 1
        return [round(x * 60) for x in frames[:, 0, 0, 0].tolist()], fps

    assert fitted(length=9) == (list(range(9)), 0.0), "as before where the rate is not known"
    numbers, fps = fitted(source_fps=30.0)
    assert (len(numbers), numbers[:5], fps) == (29, [0, 2, 4, 6, 8], 16.0)
    assert said[-1] == "29 of 60 frames, 16x16 pixels; 30 frames a second became 16, the last 3 cut off"
    numbers, fps = fitted(source_fps=30.0, fps=30.0, length=9, longer="thin")
    assert (numbers, fps) == (list(range(0, 57, 7)), 30 / 7)


def test_videos_of_unknown_rate_are_written(pack, tmp_path, monkeypatch):
    """Fit Video gives a rate of 0 where it was told none."""
    import folder_paths
    from det_pack.nodes.compare import DeTCompareVideos
    from det_pack.nodes.track import DeTTrackVideo

    monkeypatch.setattr(folder_paths, "temp_directory", str(tmp_path))
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    clip = torch.rand(5, 64, 64, 3, generator=torch.Generator().manual_seed(0))
    DeTTrackVideo.execute(clip, 5, "lk", 0, fps=0.0)
    DeTCompareVideos.execute(clip, clip, 0.0, "compared")
    assert len(list(tmp_path.rglob("*.mp4"))) == 2
