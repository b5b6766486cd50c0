"""What a family of base models is: everything that the rest of the package asks about it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..overriding import Forward
from .keys import Rules, rename
from .placing import Placing
from .projections import Stack
from .spec import DiTSpec, Layout, has_modules


@dataclass(frozen=True)
class Costs:
    """What training keeps, in token streams (tokens x channels), beside a block's own MLP. Measured with every storage
    counted, on diffusers' modules where a file does not say otherwise."""

    block: float  # inside a block, nothing computed twice
    first: float  # saved in the first block, whose input needs no gradient
    attention: float  # a block that keeps its input and the results of its attention
    inside: float  # the block in work when blocks are computed again, MLP of three widths beside it
    least: float  # the same where attention has the peak, MLP of one width beside it
    last: float  # the end of the model, when its backward begins, MLP of two widths beside it
    map_block: float = 0.0  # attention that keeps its whole map: in a block, a token of the video and its text
    map_inside: float = 0.0  # the same in the block in work


class Family:
    """One family of base models. A new one is a file with a subclass that says what differs, and an entry in FAMILIES.

    Convention: latents are (B, C, T, H, W) in the model's own space; `spec` is the model as `bind` described it.
    """

    name: str  # as adapter files have it
    title: str  # as people say it
    diffusers_class: str  # of the transformer
    pipeline: str  # class of the diffusers pipeline that a folder of it holds
    native_modules: tuple[str, ...]  # submodules that only a native (ComfyUI) model of the family has
    diffusers_marks: tuple[str, ...]  # tensors that only a checkpoint of the family has, under either names
    native_marks: tuple[str, ...]
    rules: Rules  # templates (diffusers, native) of the keys of a state dict
    stacks: tuple[tuple[Stack, Stack], ...]  # the lists of like blocks, each (diffusers, native)
    costs: Costs  # of training in 32 bits
    half_costs: Costs  # and in 16, where models compute their norms and some rotary embeddings in float32 all the same
    diffusers_costs: tuple[Costs, Costs] | None = None  # both, where diffusers' own modules keep something else
    text_tokens: int = 0  # that usually run through the blocks with the video's
    of_sprites: bool = False  # its videos are single coloured shapes, which can be read from the pixels
    of_world: bool = False  # they may show several, with limbs, and a camera that moves
    plain_lora: Mapping[str, Any] = {"rank": 32, "lr": 1e-4}  # of the benchmark: a usual rank, the paper's rate
    one_at_a_time: bool = False  # it takes one video at a time, as one sequence of tokens
    in_place: bool = False  # its native blocks add to the token stream in place
    lora_settings: Mapping[
        str, Mapping[str, Any]
    ] = {}  # of Follow-Your-Motion by stage, where they are the family's own

    def layout_of(self, model: nn.Module) -> Layout | None:
        """The layout of a model of this family, told by its structure or its class; None if it is of another family."""
        if has_modules(model, *self.native_modules):
            return "native"  # first: ComfyUI's CogVideoX class has the same name as that of diffusers
        return "diffusers" if self.diffusers_class in {c.__name__ for c in type(model).__mro__} else None

    def bind(self, model: nn.Module, layout: Layout) -> DiTSpec:
        """One loaded transformer described. Raises: ValueError for a relative that motion adapters do not fit."""
        raise NotImplementedError

    def call_grid(self, spec: DiTSpec, args: tuple, kwargs: Mapping[str, Any]) -> tuple[int, int, int]:
        """Token grid (T, H, W) of one call `transformer(*args, **kwargs)` of the diffusers transformer."""
        return spec.whole_grid((args[0] if args else kwargs["hidden_states"]).shape)

    def call(
        self, transformer: nn.Module, x_t: torch.Tensor, t: torch.Tensor, cond: dict, guidance: float
    ) -> torch.Tensor:
        """The velocity that the diffusers transformer predicts for latents `x_t` at times `t` (B,), called as its
        pipeline calls it. guidance: for models that are told it."""
        return transformer(x_t, timestep=t, return_dict=False, **cond)[0]

    def latent_channels(self, transformer: nn.Module) -> int:
        """Channels of the latents that a diffusers transformer denoises."""
        return transformer.config.in_channels

    def place(self, transformer: nn.Module, spec: DiTSpec, placing: Placing) -> list[tuple[nn.Module, Forward]]:
        """The forwards that put a diffusers transformer's tokens where `placing` says.

        Raises: ValueError if the model's positions cannot be set.
        """
        raise ValueError(
            f"the token positions of {self.name} in diffusers cannot be set: train on all frames at full size"
        )

    @property
    def placeable(self) -> bool:
        """Whether the tokens of its diffusers transformers can be put elsewhere (`place`)."""
        return type(self).place is not Family.place

    def place_native(self, dit: nn.Module, spec: DiTSpec, placing: Placing) -> AbstractContextManager[dict]:
        """Inside, a native model's tokens stand where `placing` says; gives the `transformer_options` that calls must
        have for it. Raises: as `place`."""
        raise ValueError(
            f"the token positions of {self.name} cannot be set in ComfyUI: train on all frames at full size"
        )

    def encode_prompts(self, pipe: Any, prompts: list[str], device: torch.device) -> dict[str, torch.Tensor]:
        """Prompts as the transformer takes them, encoded with the arguments that the pipeline itself uses."""
        text, _ = pipe.encode_prompt(prompts, do_classifier_free_guidance=False, device=device)
        return {"encoder_hidden_states": text}

    def transformer_of(self, pipe: Any) -> nn.Module:
        """What a loaded pipeline denoises with."""
        return pipe.transformer

    def schedule(self, spec: DiTSpec, own: Any, steps: int, shape: torch.Size, device: torch.device) -> Any:
        """A fresh scheduler of diffusers with the times at which the pipeline calls the model.

        own: the scheduler of the model's folder; None takes Euler at the shift of the spec. shape: of the latents.
        """
        from diffusers import FlowMatchEulerDiscreteScheduler

        own = FlowMatchEulerDiscreteScheduler(shift=spec.defaults.shift) if own is None else own
        scheduler = type(own).from_config(own.config)
        scheduler.set_timesteps(**self.times(scheduler, steps, spec.grid(shape)), device=device)
        return scheduler

    def times(self, scheduler: Any, steps: int, grid: tuple[int, int, int]) -> dict[str, Any]:
        """What the pipeline says to its scheduler of the times of the steps."""
        return {"num_inference_steps": steps}

    def latent_statistics(self, vae: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
        """(mean, deviation) by channel, or one for all, of the VAE's latents; the model takes them normalised."""
        return torch.zeros(1), torch.full((1,), 1 / (getattr(vae.config, "scaling_factor", None) or 1.0))

    def costs_of(self, spec: DiTSpec, bits: int) -> Costs:
        """What training a model keeps, in 32 or 16 bits."""
        own = self.diffusers_costs if spec.layout == "diffusers" else None
        return (own or (self.costs, self.half_costs))[bits == 16]

    def mlp_ratio(self, transformer: nn.Module, spec: DiTSpec) -> float:
        """Width of a block's MLP over the tokens' width."""
        return 4.0

    def to_native(self, state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """A diffusers state dict under the native names and shapes."""
        return rename(state_dict, self.rules)

    def to_diffusers(self, state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The exact inverse of `to_native`."""
        return rename(state_dict, [(native, diffusers) for diffusers, native in self.rules])
