"""Follow the moving subject of a video, its camera, or both by points."""

from __future__ import annotations

import torch
from comfy_api.latest import io

from ..det_core.tracking.draw import draw_tracks
from ..det_core.tracking.subject import FOUND_BY_MOTION, WHAT
from ..det_core.tracking.trackers import TRACKERS
from ._comfy.display.notice import say
from ._comfy.display.preview import preview_video
from ._comfy.sockets.checked import tracks_value, video_frames
from ._comfy.sockets.pointing import boxes_of, clicks_of, subject_mask
from ._comfy.sockets.tracking import TRACKER_NAMES, track_what


class DeTTrackVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DeTTrackVideo",
            display_name="Track Video (DeT)",
            category="DeT",
            description=(
                "Follow points of the moving subject through a video. Without a mask the subject is what moves "
                "against the camera. Where the points of the first frame are lost, or the subject comes later, "
                "points of later frames are added. "
                "CoTracker3, if you installed it, is licensed for non-commercial use (CC-BY-NC)."
            ),
            search_aliases=["point tracking", "cotracker", "motion tracking", "optical flow tracks", "trajectory"],
            inputs=[
                io.Image.Input(
                    "frames", tooltip="The video, at least 2 frames. For training: exactly the frames that you encode."
                ),
                io.Int.Input(
                    "points",
                    default=100,
                    min=1,
                    max=10000,
                    tooltip=(
                        "Points to follow from the first frame. 100 is the paper's number; more takes longer and "
                        "changes little. Where they are lost, up to as many are added every 16 frames."
                    ),
                ),
                io.Combo.Input(
                    "tracker",
                    options=TRACKER_NAMES,
                    default="auto",
                    tooltip=(
                        "auto: CoTracker3 if it is installed with its weights, else optical flow (dis). lk: an "
                        "older optical flow, not as good. sprite reads clips of the embedded model. Scores of "
                        "different trackers do not compare."
                    ),
                ),
                io.Int.Input(
                    "point_seed",
                    default=0,
                    min=0,
                    max=2**31 - 1,
                    tooltip="Choice of the points. The same seed gives the same points.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip=(
                        "The subject in the first frame, white. A mask of another size is resized; of several "
                        "masks the first counts."
                    ),
                ),
                io.BoundingBox.Input(
                    "box",
                    optional=True,
                    force_input=True,
                    tooltip=(
                        "A box around the subject in the first frame, in pixels of these frames, from Create Bounding "
                        "Boxes, Bounding Box or a detector. Of what moves, the part in the box is the subject."
                    ),
                ),
                io.String.Input(
                    "clicks",
                    optional=True,
                    force_input=True,
                    tooltip=(
                        'Points on the subject in the first frame, as points editors write them: [{"x": 40, "y": 60}, '
                        "...] in pixels of these frames. Of what moves, the parts under the points are the subject."
                    ),
                ),
                io.Combo.Input(
                    "what_moves",
                    options=list(WHAT),
                    default="subject",
                    optional=True,
                    tooltip=(
                        "What the points are on. subject: what moves against the camera, or what the mask, box or "
                        "clicks show. camera: what stands still, so that only the camera moves it. both: half of the "
                        "points each; Evaluate Motion then scores them apart."
                    ),
                ),
                io.Float.Input(
                    "fps",
                    default=8.0,
                    min=0.1,
                    max=240.0,
                    step=0.01,
                    optional=True,
                    advanced=True,
                    tooltip="Frames a second at which the drawn video plays on the node; Fit Video gives the source's.",
                ),
            ],
            outputs=[
                io.Tracks.Output(
                    display_name="tracks",
                    tooltip="For Train Motion Adapter, Evaluate Motion and the core's WanMove nodes.",
                ),
                io.Image.Output(
                    display_name="drawn", tooltip="The video with the tracks drawn on it; hidden points are grey."
                ),
            ],
            has_intermediate_output=True,
        )

    @classmethod
    def execute(
        cls, frames, points, tracker, point_seed, mask=None, box=None, clicks=None, what_moves="subject", fps=8.0
    ) -> io.NodeOutput:
        video = video_frames(frames)
        subject = subject_mask(video, mask, boxes_of(box), clicks_of(clicks))
        with torch.inference_mode(False):
            generator = torch.Generator().manual_seed(point_seed)
            tracks, still = track_what(video.clone(), subject, points, tracker, generator, what_moves)
        if subject is None and what_moves != "camera" and tracks.tracker in TRACKERS:
            say(FOUND_BY_MOTION)
        drawn = draw_tracks(video, tracks)
        return io.NodeOutput(
            tracks_value(tracks, video.shape[2], video.shape[1], still),
            drawn.float() / (255 if drawn.dtype == torch.uint8 else 1),
            ui=preview_video(drawn, fps),
        )
