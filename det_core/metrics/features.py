"""Image and text features from local Hugging Face folders: CLIP, and ViT / DINO / DINOv2.

Nothing is ever downloaded. Pictures are prepared as the folder's own preprocessor_config.json says, always with Pillow:
numbers must not depend on which image backend transformers would pick.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError

from ..files import open_tensors

VISION_TYPES = ("vit", "dinov2", "dinov2_with_registers")
BATCH = 16  # pictures per forward pass


def as_pictures(frames: torch.Tensor) -> np.ndarray:
    """Frames (T, H, W, 3), uint8 or float in [0, 1], as a uint8 array of the same shape.

    Raises: ValueError for another shape.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.shape[0] == 0:
        raise ValueError(f"frames must be (frames, height, width, 3), got {tuple(frames.shape)}")
    frames = frames.detach().cpu()
    if frames.is_floating_point():
        frames = (frames.float().clamp(0, 1) * 255).round().to(torch.uint8)
    return frames.to(torch.uint8).numpy()


class Preparation:
    """What the folder's preprocessor_config.json asks for, by transformers' own image processor on Pillow."""

    def __init__(self, folder: Path) -> None:
        import transformers

        on_pillow = {"backend": "pil"} if int(transformers.__version__.split(".")[0]) >= 5 else {"use_fast": False}
        found = transformers.AutoImageProcessor.from_pretrained(folder, local_files_only=True, **on_pillow)
        self.processor = partial(found, input_data_format="channels_last", return_tensors="pt")

    def pixels(self, pictures: np.ndarray) -> torch.Tensor:
        """(T, H, W, 3) uint8 -> (T, 3, H', W') as the network wants them."""
        return self.processor(list(pictures))["pixel_values"]

    def mask(self, masks: torch.Tensor) -> torch.Tensor:
        """(T, H, W) bool -> (T, H', W') in [0, 1], through the same resize and crop as the pictures."""
        pictures = masks.cpu().to(torch.uint8).mul(255).numpy()[..., None].repeat(3, axis=-1)
        placed = self.processor(list(pictures), do_normalize=False, do_rescale=True, rescale_factor=1 / 255)
        return placed["pixel_values"][:, 0].clamp(0, 1)


class _Extractor:
    """A network from a local folder with the folder's picture preparation."""

    kind: str
    types: tuple[str, ...]

    @classmethod
    def check(cls, folder: str | Path) -> None:
        """Raise ValueError, without loading anything, if `folder` holds no model of this kind."""
        folder = Path(folder)
        config = folder / "config.json"
        if not config.is_file():
            raise ValueError(f"{folder} is not a folder of a {cls.kind} model: it has no config.json")
        try:
            found = json.loads(config.read_text(encoding="utf-8")).get("model_type", "unknown")
        except (ValueError, AttributeError) as error:
            raise ValueError(f"{config} cannot be read as a model's configuration: {error}") from error
        if found not in cls.types:
            raise ValueError(
                f"{folder} holds a model of type {found!r}; {cls.kind} features need type {' or '.join(cls.types)}"
            )
        if not (folder / "preprocessor_config.json").is_file():
            raise ValueError(f"{folder} has no preprocessor_config.json: download the whole model folder")
        for weights in folder.glob("[!.]*.safetensors"):
            try:
                with open_tensors(weights):
                    pass
            except ValueError as error:
                raise ValueError(f"{weights} is not whole: download it again (with git: git lfs pull)") from error

    def __init__(self, folder: str | Path, device: str | torch.device = "cpu") -> None:
        self.check(folder)
        folder = Path(folder)
        self.folder, self.device = folder, torch.device(device)
        try:
            self.preparation = Preparation(folder)
            self.model = self._load().to(self.device).eval()
        except (OSError, SafetensorError) as error:
            raise ValueError(
                f"{folder}: the {self.kind} model cannot be loaded: {str(error).splitlines()[0]}"
            ) from error

    def free(self) -> None:
        """Drop the network and give its device memory back."""
        self.model = None
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _batches(self, pictures: np.ndarray) -> Iterator[torch.Tensor]:
        for start in range(0, len(pictures), BATCH):
            yield self.preparation.pixels(pictures[start : start + BATCH]).to(self.device)


class ClipFeatures(_Extractor):
    """Image and text features of one transformers CLIP folder; the paper's is openai/clip-vit-base-patch32."""

    kind, types = "CLIP", ("clip",)

    def _load(self) -> torch.nn.Module:
        from transformers import CLIPModel, CLIPTokenizer

        self.tokenizer = CLIPTokenizer.from_pretrained(self.folder, local_files_only=True)
        return CLIPModel.from_pretrained(self.folder, local_files_only=True)

    @torch.no_grad()
    def images(self, frames: torch.Tensor) -> torch.Tensor:
        """(T, D) unit vectors of frames (T, H, W, 3)."""
        model = self.model
        features = [
            model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output)
            for pixels in self._batches(as_pictures(frames))
        ]
        return F.normalize(torch.cat(features), dim=-1).cpu()

    @torch.no_grad()
    def text(self, prompt: str) -> torch.Tensor:
        """(D,) unit vector of a prompt; what exceeds the model's text length is cut off."""
        length = self.model.config.text_config.max_position_embeddings
        tokens = self.tokenizer([prompt], truncation=True, max_length=length, return_tensors="pt").to(self.device)
        pooled = self.model.text_model(**tokens).pooler_output
        return F.normalize(self.model.text_projection(pooled)[0], dim=-1).cpu()


class VisionFeatures(_Extractor):
    """Class-token and patch features of one ViT, DINO or DINOv2 folder; the paper's is facebook/dino-vitb16."""

    kind, types = "DINO", VISION_TYPES

    def _load(self) -> torch.nn.Module:
        from transformers import AutoModel

        return AutoModel.from_pretrained(self.folder, local_files_only=True)

    @torch.no_grad()
    def class_tokens(self, frames: torch.Tensor) -> torch.Tensor:
        """(T, D) unit vectors of frames (T, H, W, 3): last_hidden_state[:, 0]."""
        hidden = [
            self.model(pixel_values=pixels).last_hidden_state[:, 0] for pixels in self._batches(as_pictures(frames))
        ]
        return F.normalize(torch.cat(hidden), dim=-1).cpu()

    @torch.no_grad()
    def region(self, frames: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor | None:
        """(D,) unit vector: mean patch feature over a region of a video.

        Args:
            frames:  (T, H, W, 3).
            weights: (T, H, W) bool, the region; None is the whole picture.
        Returns: None where the region is empty once prepared.
        """
        pictures = as_pictures(frames)
        total, weight = 0.0, 0.0
        for start, pixels in zip(range(0, len(pictures), BATCH), self._batches(pictures), strict=True):
            hidden = self.model(pixel_values=pixels).last_hidden_state
            registers = getattr(self.model.config, "num_register_tokens", 0) or 0
            patches = F.normalize(hidden[:, 1 + registers :], dim=-1).cpu()  # (B, P, D), row by row
            patch = self.model.config.patch_size
            if weights is None:
                share = torch.ones(patches.shape[:2])
            else:
                masks = self.preparation.mask(weights[start : start + BATCH])
                share = F.avg_pool2d(masks[:, None], patch, patch).flatten(1)
            total = total + (patches * share[..., None]).sum((0, 1))
            weight = weight + share.sum()
        return F.normalize(total / weight, dim=-1) if weight > 0 else None


@contextmanager
def opened(source: str | Path | _Extractor, kind: type[_Extractor], device: str = "cpu") -> Iterator[_Extractor]:
    """An extractor as it is, or one loaded from a folder and freed at the end."""
    if isinstance(source, _Extractor):
        if not isinstance(source, kind):
            raise ValueError(f"{source.folder} was loaded for {source.kind} features; this metric needs {kind.kind}")
        yield source
        return
    extractor = kind(source, device)
    try:
        yield extractor
    finally:
        extractor.free()
