"""What cannot be right is refused in one line before anything is loaded or computed: what, where, what to do."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from small_models import CASES, randomly
from walk import an_adapter, node

H3 = CASES["MiniMax H3 with sound"]


@pytest.fixture
def spec_of(pack):
    from det_pack.nodes._comfy.loading.model_spec import model_spec

    return lambda name: model_spec(CASES[name].model())


def refused(work) -> str:
    with pytest.raises(ValueError) as error:
        work()
    message = str(error.value)
    assert "\n" not in message and len(message.split()) > 6
    return message


def nested(*streams):
    from comfy.nested_tensor import NestedTensor

    return {"samples": NestedTensor(list(streams))}


@pytest.mark.parametrize(
    ("name", "channels", "frames", "words"),
    [
        ("MiniMax H3 with sound", 24, 4, "needs 17k+5 frames, not 13: ask for 5 or 22 frames"),
        ("MiniMax H3 with sound", 24, 9, "needs 17k+5 frames, not 30: ask for 22 or 39 frames"),
        ("MiniMax H3 with sound", 24, 1, "have one frame: motion needs a video"),
        ("LTX-2.3", 128, 1, "have one frame: motion needs a video"),
    ],
)
def test_lengths_that_the_codec_does_not_make(spec_of, name, channels, frames, words):
    from det_pack.nodes._comfy.sockets.checked import video_latents

    latent = {"samples": torch.zeros(1, channels, frames, 4, 6)}
    assert words in refused(lambda: video_latents(latent, channels, spec_of(name)))


def test_latents_without_a_video(spec_of):
    from det_pack.nodes._comfy.sockets.checked import video_latents

    spec, video, sound = spec_of("LTX-2.3"), torch.zeros(1, 128, 3, 4, 6), torch.zeros(1, 8, 10, 16)
    assert "hold sound and no video" in refused(lambda: video_latents(nested(sound, sound), 128, spec))
    assert video_latents(nested(video, sound), 128, spec) is not None
    assert "latents are pictures" in refused(lambda: video_latents({"samples": video[:, :, 0]}, 128, spec))
    assert "have 24 channels, ltx2 needs 128" in refused(lambda: video_latents({"samples": video[:, :24]}, 128, spec))
    assert "hold 2 videos" in refused(lambda: video_latents({"samples": video.expand(2, -1, -1, -1, -1)}, 128, spec))


def test_several_videos_at_once_on_a_model_of_one(pack):
    from det_pack.det_core.training.config import TrainConfig
    from det_pack.det_core.training.draws import DrawnFromViews
    from det_pack.nodes._comfy.loading.model_spec import model_spec
    from det_pack.nodes._comfy.sampling.call import video_tokens

    patcher = H3.model()
    spec, two = model_spec(patcher), torch.zeros(2, 24, 7, 4, 6)
    said = refused(lambda: video_tokens(patcher.model, spec, two, {}, {}))
    assert said == "MiniMax H3 makes one video at a time, not 2: set the batch to 1"

    denoiser = SimpleNamespace(spec=spec)
    said = refused(lambda: DrawnFromViews(denoiser, two[:1], {}, None, TrainConfig(batch=2)))
    assert said == "MiniMax H3 takes one video at a time: train with a batch of 1, not 2"


def test_models_of_no_video_say_what_is_supported(pack):
    from det_pack.nodes._comfy.loading.model_spec import model_spec

    said = refused(lambda: model_spec(CASES["Mochi"].model()))
    assert said.startswith("this MODEL is a GenmoMochi, which motion adapters do not work on")
    assert all(title in said for title in ("CogVideoX", "HunyuanVideo", "Wan", "LTX-2", "MiniMax H3"))
    assert "makes images, not videos" in refused(lambda: model_spec(CASES["HunyuanImage 2.1"].model()))


def test_an_adapter_of_another_family(pack, spec_of):
    adapter = an_adapter(spec_of("LTX-2.3"), 0.1)
    apply = node("DeTApplyMotionAdapter", "apply")
    said = refused(lambda: apply.execute(H3.model(), adapter, 1.0, -1.0))
    assert said.startswith("this motion adapter was made for ltx2 2.3 with 3 blocks of 32 channels, but the model is")


def test_frames_that_no_family_takes_while_training(pack):
    """Guides stand in LTX's latents as if they were video; a keyframe of the conditioning is H3's way, not a mask."""
    from det_pack.nodes._comfy.training.conditions import check_conditioning

    ltx, h3 = CASES["LTX-2.3"].model().model, H3.model().model
    said = refused(lambda: check_conditioning(ltx, {"keyframe_idxs": randomly(1, 3, 24, 2)}, 3))
    assert "has guide frames (LTXV Add Guide)" in said
    assert "is not trained with a noise mask" in refused(lambda: check_conditioning(h3, {}, 7, masked=True))
