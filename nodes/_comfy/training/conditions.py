"""What a caption's CONDITIONING says of a source clip: as a whole, for some of its frames, and which frames it gives.

Image-to-video conditioning holds a picture and says by a mask which frames are known; control conditioning holds
something for every frame. A training step that looks at a few frames gets what belongs to those.
"""

from __future__ import annotations

from collections.abc import Sequence

import comfy.model_base
import torch
from comfy.context_windows import IndexListContextWindow

# What says something of each frame; `vace_context` is always there and may say the same of all.
_STEERING = ("control", "camera_conditions", "audio_embed", "pose_latents", "face_pixel_values", "control_video")


class Conditions:
    """One processed positive condition of a clip `x0` (1, C, T, H, W), in the model's space.

    mask: (1, 1, T, H, W), 0 where the clip is given and 1 where it is to be made; None if nothing is given.
    blend: the model sees given places clean, as samplers hold them for a latent's noise mask.
    """

    def __init__(self, model, cond: dict, x0: torch.Tensor, mask: torch.Tensor | None = None, blend: bool = False):
        # A range of the sampling in which a caption acts is not looked at: it holds for every step of a training.
        self.whole = {k: v for k, v in cond.items() if k not in ("timestep_start", "timestep_end")}
        self.model, self.x0, self.mask, self.blend = model, x0, mask, blend

    def frames(self, x_t: torch.Tensor, times: Sequence[float] | None) -> list[int] | None:
        """Which frames of the clip `x_t` holds, None for all of them in order.

        times: where they stand in the clip. Without them a shorter `x_t` is a frame on its own, of no time: it counts
        as the last frame that is not given.
        """
        total = self.x0.shape[2]
        if times is not None:
            return [min(total - 1, max(0, round(time))) for time in times]
        return None if x_t.shape[2] == total else [self._free_frame()] * x_t.shape[2]

    def of(self, frames: list[int] | None) -> dict:
        """The condition of these frames."""
        if frames is None:
            return self.whole
        window = IndexListContextWindow(frames, dim=2, total_frames=self.x0.shape[2])
        own = {name: self._of_window(name, value, window) for name, value in self.whole["model_conds"].items()}
        return {**self.whole, "model_conds": own}

    def seen(self, x_t: torch.Tensor, sigma: torch.Tensor, frames: list[int] | None) -> torch.Tensor:
        """What the model is shown for the noised latents `x_t`: given places as its samplers hold them."""
        own = type(self.model).scale_latent_inpaint is not comfy.model_base.BaseModel.scale_latent_inpaint
        if self.mask is None or not self.blend or not own:  # others hold them noised, as `x_t` is
            return x_t
        mask, clean = self._of_clip(self.mask, frames), self._of_clip(self.x0, frames)
        held = self.model.scale_latent_inpaint(
            x=x_t, sigma=sigma, noise=torch.zeros_like(x_t), latent_image=clean.expand_as(x_t), denoise_mask=mask
        )
        return x_t * mask + held * (1 - mask)

    def made(self, x0_pred: torch.Tensor, frames: list[int] | None) -> torch.Tensor:
        """The prediction with given places as they are: no error and no gradient there."""
        if self.mask is None:
            return x0_pred
        mask = self._of_clip(self.mask, frames)
        return x0_pred * mask + self._of_clip(self.x0, frames) * (1 - mask)

    @property
    def by_frame(self) -> bool:
        """Whether some frames have another condition than others, so that it matters which ones are looked at."""
        some = self.of([0])["model_conds"]
        return self.mask is not None or any(
            some[name] is not value for name, value in self.whole["model_conds"].items()
        )

    def steering(self) -> str | None:
        """The name of what steers each frame on its own, if anything does."""
        conds = {name: getattr(value, "cond", None) for name, value in self.whole["model_conds"].items()}
        present = [name for name in _STEERING if conds.get(name) is not None or self.whole.get(name) is not None]
        if (context := conds.get("vace_context")) is not None and _varies(context, 3):
            present.append("vace_context")
        picture = conds.get("c_concat")  # of image-to-video it says which frames are known, or holds the first alone
        if picture is not None and self.mask is None and picture.shape[2] > 2 and _varies(picture[:, :, 1:], 2):
            present.append("concat_latent_image")
        return present[0] if present else None

    def _of_window(self, name: str, value, window: IndexListContextWindow):
        own = self.model.resize_cond_for_context_window(name, value, window, self.x0, self.x0.device)
        if own is not None:
            return own
        tensor = getattr(value, "cond", None)
        if isinstance(tensor, torch.Tensor) and tensor.ndim >= 4 and tensor.shape[2] == self.x0.shape[2]:
            return value._copy_with(window.get_tensor(tensor, dim=2))
        return value

    def _of_clip(self, tensor: torch.Tensor, frames: list[int] | None) -> torch.Tensor:
        return tensor if frames is None else tensor[:, :, frames]

    def _free_frame(self) -> int:
        last = self.x0.shape[2] - 1
        if self.mask is None:
            return last
        free = (self.mask > 0.5).flatten(3).all(dim=3)[0, 0].nonzero().flatten().tolist()
        return free[-1] if free else last


def _varies(tensor: torch.Tensor, axis: int) -> bool:
    """Whether a condition says other things of one frame than of another."""
    return not torch.equal(tensor, tensor.narrow(axis, 0, 1).expand_as(tensor))


def check_single_frames(denoiser) -> None:
    """Refuse what Follow-Your-Motion cannot learn under: it looks at single frames and at some frames of the clip.

    Raises: ValueError.
    """
    conditions, spec = denoiser.conditions, denoiser.spec
    if (name := conditions.steering()) is not None:
        raise ValueError(
            f"this conditioning steers every frame on its own ({name}), and Follow-Your-Motion learns single frames as "
            "well: caption the source with text, or with text and its first picture"
        )
    if isinstance(spec.taps[0].tokens, int) or "ref_latent" in conditions.whole["model_conds"]:
        raise ValueError(
            "this conditioning has reference, pose or context frames, which Follow-Your-Motion cannot learn beside: "
            "caption the source with text, or with text and its first picture"
        )
    with denoiser.at_positions([float(2 * i) for i in range(spec.patch[0])]):
        pass  # a model whose positions cannot be set says so


def beside_the_text(conditioning: list) -> dict:
    """What a CONDITIONING holds beside its one text. Raises: ValueError if several are combined in it."""
    if len(conditioning) > 1:
        raise ValueError(
            f"this caption is {len(conditioning)} conditionings combined, and a step learns under one: connect what "
            "one text encoder gives, with all that the clip shows in its words"
        )
    return conditioning[0][1]


def check_conditioning(model, given: dict, frames: int, masked: bool = False) -> None:
    """Refuse a CONDITIONING, `given` beside its text, that a clip of `frames` latent frames cannot be learned under.

    Raises: ValueError: guide frames are in it; an image-to-video model has no picture; it is of another length.
    """
    if given.get("keyframe_idxs") is not None:
        raise ValueError(
            "this conditioning has guide frames (LTXV Add Guide), which stand in the latents as if they were video: "
            "train on the source's own latents and a conditioning without guides; sample with guides"
        )
    if masked and isinstance(model, comfy.model_base.MiniMaxH3):
        raise ValueError(
            "MiniMax H3 is not trained with a noise mask: give the source's first picture as a keyframe of the "
            "conditioning, and the latents without a mask"
        )
    if isinstance(model, comfy.model_base.WAN22_Animate):
        raise ValueError(
            "the first latent frame of Wan Animate is a picture of the character, no time step: train on a Wan 2.1 or "
            "2.2 image-to-video model of the same size and apply the adapter here"
        )
    if _needs_picture(model) and given.get("concat_latent_image") is None:
        raise ValueError(
            f"this MODEL ({type(model).__name__}) makes videos out of a picture, and the caption's conditioning holds "
            "none: pass the caption through its image-to-video node with the first frame of the source"
        )
    parts = [(name, given[name]) for name in ("concat_latent_image", "concat_mask") if name in given]
    parts += [("vace_frames", context) for context in given.get("vace_frames") or ()]
    # A single picture is what CogVideoX's videos start with: its other frames are filled up with zeros.
    fitting = (1, frames) if isinstance(model, comfy.model_base.CogVideoX) else (frames,)
    wrong = [(name, part.shape[2]) for name, part in parts if part.ndim == 5 and part.shape[2] not in fitting]
    if wrong:
        name, length = wrong[0]
        raise ValueError(
            f"the caption's conditioning ({name}) is for {length} latent frames, the source has {frames}: make it with "
            "the length of the source, and without a reference picture"
        )


def _needs_picture(model) -> bool:
    """Whether the model has inputs for the picture of image-to-video and no meaning without one."""
    if isinstance(model, comfy.model_base.CogVideoX):
        return model.image_to_video
    if isinstance(model, comfy.model_base.HunyuanVideo):
        return bool(model.concat_keys)
    if type(model) is comfy.model_base.WAN21:
        return model.diffusion_model.patch_embedding.weight.shape[1] == 2 * model.latent_format.latent_channels + 4
    return False
