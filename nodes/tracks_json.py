"""TRACKS to and from the JSON that spline editors and ATI nodes speak: a list of tracks, each a list of {"x", "y"} in
pixels."""

from __future__ import annotations

import json

import torch
from comfy_api.latest import io


class DeTTracksToJSON(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DeTTracksToJSON",
            display_name="Tracks to JSON (DeT)",
            category="DeT/tracks",
            description=(
                "Write TRACKS as JSON coordinates, for spline editors and the nodes that take track strings "
                "(WanTrackToVideo, ATI)."
            ),
            search_aliases=["tracks to string", "ati tracks", "track coords"],
            inputs=[
                io.Tracks.Input("tracks", tooltip="Tracks in pixels."),
                io.Int.Input(
                    "frames",
                    default=0,
                    min=0,
                    max=10000,
                    tooltip="Resample in time to this many frames (ATI wants 121). 0 keeps them.",
                ),
            ],
            outputs=[
                io.String.Output(display_name="json", tooltip="All tracks in one string."),
                io.String.Output(display_name="json_list", tooltip="One string a track.", is_output_list=True),
            ],
        )

    @classmethod
    def execute(cls, tracks, frames) -> io.NodeOutput:
        path = tracks["track_path"].float().cpu()  # (T, N, 2)
        if frames and frames != path.shape[0]:
            nearest = torch.linspace(0, path.shape[0] - 1, frames).round().long()
            path = path[nearest]
        listed = [[{"x": round(x), "y": round(y)} for x, y in track] for track in path.transpose(0, 1).tolist()]
        return io.NodeOutput(json.dumps(listed), [json.dumps(track) for track in listed])


class DeTTracksFromJSON(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DeTTracksFromJSON",
            display_name="Tracks from JSON (DeT)",
            category="DeT/tracks",
            description="Read tracks that a spline editor or a script wrote as JSON. All points count as visible.",
            search_aliases=["string to tracks", "spline to tracks", "coords to tracks"],
            inputs=[
                io.String.Input(
                    "coordinates",
                    multiline=True,
                    default='[[{"x": 0, "y": 0}, {"x": 10, "y": 10}]]',
                    tooltip=(
                        'One track [{"x":..,"y":..}, ...] or a list of tracks, in pixels; or a list of such '
                        "strings, one a track."
                    ),
                ),
            ],
            outputs=[
                io.Tracks.Output(
                    display_name="tracks", tooltip="For Train Motion Adapter and the core's WanMove nodes."
                )
            ],
            is_input_list=True,
        )

    @classmethod
    def execute(cls, coordinates) -> io.NodeOutput:
        tracks = [track for text in coordinates for track in _tracks(text)]
        if not tracks:
            raise ValueError("there is no track in this JSON")
        lengths = sorted({len(track) for track in tracks})
        if len(lengths) > 1:
            raise ValueError(
                f"the tracks have different numbers of frames ({', '.join(map(str, lengths))}): give all the same "
                "number"
            )
        path = torch.tensor(tracks, dtype=torch.float32).transpose(0, 1).contiguous()
        return io.NodeOutput({"track_path": path, "track_visibility": torch.ones(path.shape[:2], dtype=torch.bool)})


def _tracks(text: str) -> list[list[tuple[float, float]]]:
    try:
        value = json.loads(text.replace("'", '"'))
        if value and isinstance(value[0], dict):
            value = [value]
        return [[(float(point["x"]), float(point["y"])) for point in track] for track in value]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError('this is no track JSON: write [[{"x": 12, "y": 30}, {"x": 14, "y": 31}], ...]') from error
