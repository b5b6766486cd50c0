"""Appearance: does the video show what the prompt asks for, does it stay the same, how much of the source is in it.

Every metric takes a local model folder or a loaded extractor, and answers None, "not measured", without one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from .features import ClipFeatures, VisionFeatures, opened

SAME = 0.999  # two similarities this close to 1 leave nothing to leak


def edit_fidelity(frames: torch.Tensor, prompt: str, clip: str | Path | ClipFeatures | None = None) -> float | None:
    """100 x cosine between the prompt and each frame, mean over all frames.             (DeT, section 4.1, CLIP score)

    Note: the released code rebuilds the prompt from a folder name, losing punctuation; this takes the prompt itself.

    Args:
        frames: (T, H, W, 3), uint8 or float in [0, 1].
        clip:   a transformers CLIP folder or a loaded ClipFeatures.
    Raises: ValueError for an empty prompt or a folder that holds no CLIP model.
    """
    if not prompt.strip():
        raise ValueError("edit fidelity needs the prompt that the video was made from; it is empty")
    if clip is None:
        return None
    with opened(clip, ClipFeatures) as features:
        return (100 * (features.images(frames) @ features.text(prompt)).mean()).item()


def temporal_consistency(
    frames: torch.Tensor,
    dino: str | Path | VisionFeatures | None = None,
    variant: str = "consecutive",
) -> float | None:
    """100 x mean cosine between class-token features of frames.                  (DeT, section 4.1, DINO consistency)

    "consecutive" compares each frame with the one before it, as the paper says. "reference_code" averages that with the
    similarity to the first frame and counts the first frame against itself in both, as the released evaluation does.
    Both use last_hidden_state[:, 0]: the released code takes a pooler that DINO folders have no weights for. A frozen
    video scores 100.

    Args:
        frames: (T, H, W, 3) with T > 1, uint8 or float in [0, 1].
        dino:   a transformers ViT, DINO or DINOv2 folder or a loaded VisionFeatures.
    Raises: ValueError for a single frame, an unknown variant, or a folder of another kind.
    """
    if variant not in ("consecutive", "reference_code"):
        raise ValueError(f"variant {variant!r} is unknown: use 'consecutive' or 'reference_code'")
    if len(frames) < 2:
        raise ValueError("temporal consistency compares frames: the video has only one")
    if dino is None:
        return None
    with opened(dino, VisionFeatures) as features:
        return consistency_of(features.class_tokens(frames), variant)


def consistency_of(tokens: torch.Tensor, variant: str = "consecutive") -> float:
    """`temporal_consistency` of a video whose class tokens (T, D), unit vectors, are already there."""
    neighbours = (tokens[1:] * tokens[:-1]).sum(-1)
    if variant == "consecutive":
        return (100 * neighbours.mean()).item()
    to_first = tokens @ tokens[0]
    to_previous = torch.cat([to_first[:1], neighbours])
    return (100 * (to_first.mean() + to_previous.mean()) / 2).item()


@dataclass(frozen=True)
class Leakage:
    """Shares of the way from the model without adapter to the source: 0 nothing leaked, 1 the source itself.

    Negative is even less like the source. None: not measured (no mask, or the model without adapter already looks like
    the source).
    """

    whole: float | None
    background: float | None = None
    foreground: float | None = None


def leakage(
    source_frames: torch.Tensor,
    generated_frames: torch.Tensor,
    base_frames: torch.Tensor,
    dino: str | Path | VisionFeatures | None = None,
    *,
    source_masks: torch.Tensor | None = None,
    generated_masks: torch.Tensor | None = None,
    base_masks: torch.Tensor | None = None,
) -> Leakage | None:
    """How much of the source's appearance is in the result: (s_generated - s_base) / (1 - s_base).

    s is the cosine between mean patch features of the source and of the generated video, and of the source and of
    what the model makes from the same prompt and seed without adapter. Mean features ignore where things are, so
    motion that was meant to be transferred does not count.

    Args:
        source_frames, generated_frames, base_frames: (T, H, W, 3) each, sizes and frame counts may differ.
        dino:  a transformers ViT, DINO or DINOv2 folder or a loaded VisionFeatures.
        *_masks: (T, H, W) bool, the subject in each video; all three together also give foreground and background.
    Raises: ValueError if some but not all masks are given, or a mask's shape is not that of its frames.
    """
    masks = {"source": source_masks, "generated": generated_masks, "base": base_masks}
    videos = {
        "source": source_frames,
        "generated": generated_frames,
        "base": base_frames,
    }
    missing = [name for name, mask in masks.items() if mask is None]
    if missing and len(missing) < 3:
        raise ValueError(f"leakage by region needs all three masks; missing: {', '.join(missing)}")
    for name, mask in masks.items():
        if mask is not None and mask.shape != videos[name].shape[:3]:
            raise ValueError(
                f"the {name} masks are {tuple(mask.shape)} but its frames are {tuple(videos[name].shape[:3])}"
            )
    if dino is None:
        return None
    with opened(dino, VisionFeatures) as features:

        def share(regions: dict[str, torch.Tensor | None]) -> float | None:
            looks = {name: features.region(videos[name], regions[name]) for name in videos}
            if any(look is None for look in looks.values()):
                return None
            source = looks["source"]
            return leaked_share((source @ looks["generated"]).item(), (source @ looks["base"]).item())

        whole = share(dict.fromkeys(videos))
        if missing:
            return Leakage(whole)
        background = share({name: ~mask.bool() for name, mask in masks.items()})
        return Leakage(whole, background, share({name: mask.bool() for name, mask in masks.items()}))


def leaked_share(similarity: float, base_similarity: float) -> float | None:
    """(similarity - base) / (1 - base): the share of the way from the model without adapter to the source.

    Both are similarities to the source, at most 1. None where the model without adapter already looks like the source.
    """
    if base_similarity > SAME:
        return None
    return (similarity - base_similarity) / (1 - base_similarity)


def diversity(videos: Sequence[torch.Tensor], dino: str | Path | VisionFeatures | None = None) -> float | None:
    """100 x mean of 1 - cosine between the mean class-token features of every two videos.

    Give videos of one prompt with different seeds: 0 means that the seed no longer matters. Compare with the same seeds
    of the model without adapter.

    Args: videos: two or more of (T, H, W, 3).
    Raises: ValueError for fewer than two videos.
    """
    if len(videos) < 2:
        raise ValueError(f"diversity compares videos of several seeds: got {len(videos)}, give at least 2")
    if dino is None:
        return None
    with opened(dino, VisionFeatures) as features:
        means = torch.stack([features.class_tokens(frames).mean(0) for frames in videos])
    means = torch.nn.functional.normalize(means, dim=-1)
    above = torch.triu_indices(len(means), len(means), offset=1)
    return (100 * (1 - (means @ means.T)[above[0], above[1]]).mean()).item()
