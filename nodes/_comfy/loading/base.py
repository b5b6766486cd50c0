"""What is known of the weights in a MODEL: the file they came from, which expert they are, how they are known again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch

from ....det_core.models.families.spec import EXPERTS
from ....det_core.models.identity import KEY, Identity

_EXPERT = re.compile(rf"({'|'.join(EXPERTS)})[ _-]?noise", re.IGNORECASE)


def model_file(patcher) -> str:
    """The name of the file that a MODEL was loaded from, "" if nothing says so."""
    made = getattr(patcher, "cached_patcher_init", None)  # (loader, its arguments, ...): the path comes first
    path = made[1][0] if made and made[1] else ""
    return Path(path).name if isinstance(path, (str, Path)) else ""


def expert_of(patcher) -> str | None:
    """ "high" or "low" for the experts of Wan 2.2 A14B, which only their files' names tell apart; None for others."""
    found = _EXPERT.search(model_file(patcher))
    return found[1].lower() if found else None


def identity_of(patcher) -> Identity:
    """By which the weights are known again; LoRAs on the MODEL do not count."""
    model = patcher.model.diffusion_model

    def own(name: str, weight: torch.Tensor) -> torch.Tensor:
        kept = patcher.backup.get(f"diffusion_model.{name}")  # the weight beneath a patch that is merged now
        return weight if kept is None else kept.weight

    with torch.inference_mode():
        return Identity.of((name, own(name, weight)) for name, weight in model.named_parameters())


def other_base(learned: Mapping[str, str], patcher) -> str | None:
    """What to say of an adapter, whose metadata is `learned`, on a MODEL of the right shape and other weights; None if
    they are those it learned on, or nothing is known."""
    expert, here = learned.get("expert"), expert_of(patcher)
    if expert and here and expert != here:
        return (
            f"this adapter learned on the {expert}-noise expert, and this MODEL ({model_file(patcher)}) is the "
            f"{here}-noise one: put it on the other MODEL, and an adapter trained on this one here"
        )
    known = Identity.read(learned.get(KEY, ""))
    if known is None or known.same(identity_of(patcher)):
        return None
    file = learned.get("base_file")
    return (
        f"this adapter learned on other weights of the same shape{f' ({file})' if file else ''}: right for a distilled "
        "or fine-tuned form of one model, wrong for the other expert or another version of it"
    )
