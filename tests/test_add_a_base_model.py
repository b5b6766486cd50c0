"""The page that adds a base model, followed to the letter: its file, with a small model of the family it describes."""

import importlib.util
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import det_core.models.families as families
from det_core.adapter.attach import attach
from det_core.adapter.motion_adapter import MotionAdapter
from det_core.lora.lora import LoRA
from det_core.models.denoiser import DiffusersDenoiser
from det_core.models.families.positions import native_positions, token_positions
from det_core.training.loop import TrainConfig, train_motion_adapter

PAGE = Path(__file__).parents[1] / "docs/develop/add-a-base-model.md"
DIM, CHANNELS, TEXT, GRID = 12, 3, 5, (3, 2, 4)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.to_q, self.to_k, self.to_v = (nn.Linear(DIM, DIM) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(DIM, DIM)])

    def forward(self, x):
        attended = nn.functional.scaled_dot_product_attention(self.to_q(x), self.to_k(x), self.to_v(x))
        return self.to_out[0](attended)


class ToyTransformer3DModel(nn.Module):
    """Text and video tokens in one stream, text first; latents (B, T, C, H, W), patches of 2x2 cells."""

    def __init__(self):
        super().__init__()
        self.config = SimpleNamespace(dim=DIM, num_attention_heads=1, in_channels=CHANNELS)
        self.proj_in, self.proj_out = nn.Linear(4 * CHANNELS, DIM), nn.Linear(DIM, 4 * CHANNELS)
        self.blocks = nn.ModuleList([nn.ModuleDict({"norm": nn.LayerNorm(DIM), "attn": Attention()}) for _ in range(3)])

    def forward(self, hidden_states, timestep, encoder_hidden_states):
        batch, frames, channels, height, width = hidden_states.shape
        cells = hidden_states.unfold(3, 2, 2).unfold(4, 2, 2)  # (B, T, C, H, W, 2, 2)
        video = self.proj_in(cells.permute(0, 1, 3, 4, 2, 5, 6).reshape(batch, -1, 4 * channels))
        x = torch.cat([encoder_hidden_states, video + (timestep / 1000).view(-1, 1, 1)], dim=1)
        for block in self.blocks:
            x = x + block["attn"](block["norm"](x))
        out = self.proj_out(x[:, TEXT:]).view(batch, frames, height // 2, width // 2, channels, 2, 2)
        return (out.permute(0, 1, 4, 2, 5, 3, 6).reshape(hidden_states.shape),)


@pytest.fixture
def toy(monkeypatch):
    """The page's file as a module of the families' room, entered as the page says."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    name = f"{families.__name__}.toy"
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader=None))
    monkeypatch.setitem(sys.modules, name, module)
    exec(compile(code, str(PAGE), "exec"), module.__dict__)
    monkeypatch.setitem(families.FAMILIES, "toy", module.TOY)
    torch.manual_seed(0)
    return ToyTransformer3DModel().requires_grad_(False)


def call(model):
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(2, GRID[0], CHANNELS, 2 * GRID[1], 2 * GRID[2], generator=generator)
    text = torch.randn(2, TEXT, DIM, generator=generator)
    return model(latents, timestep=torch.tensor([300.0, 700.0]), encoder_hidden_states=text)[0]


def test_it_is_recognised_and_a_new_adapter_changes_nothing(toy):
    spec = families.spec_for(toy)
    assert spec.name == "toy" and spec.num_blocks == 3 and spec.frames.rule == "4k+1"
    plain = call(toy)
    adapter = MotionAdapter.create(spec, mid_dim=4)
    with attach(toy, adapter):
        assert torch.equal(call(toy), plain)
    for kernel in adapter.blocks.values():
        nn.init.normal_(kernel.up.weight)
    with attach(toy, adapter):
        assert not torch.allclose(call(toy), plain, atol=1e-3)
    assert torch.equal(call(toy), plain)


def test_it_trains_in_every_block_and_is_saved(toy, tmp_path):
    denoiser = DiffusersDenoiser(toy)
    latents = torch.randn(1, CHANNELS, GRID[0], 2 * GRID[1], 2 * GRID[2], generator=torch.Generator().manual_seed(2))
    config = TrainConfig.for_spec(denoiser.spec, steps=2, lr=1e-2, mid_dim=4)
    result = train_motion_adapter(denoiser, latents, {"encoder_hidden_states": torch.zeros(1, TEXT, DIM)}, None, config)
    assert all(kernel.up.weight.abs().max() > 0 for kernel in result.adapter.blocks.values())
    result.adapter.save(tmp_path / "toy.safetensors")
    assert MotionAdapter.load(tmp_path / "toy.safetensors").base_model == "toy"


def test_its_projections_and_keys_are_found(toy):
    assert len(LoRA(toy, 2, torch.Generator()).state_dict()) == 2 * 4 * 3  # down and up of q, k, v, o, in 3 blocks
    keys = toy.state_dict()
    native = families.to_native("toy", keys)
    assert "layers.0.attend.q.weight" in native and "patch_in.weight" in native
    back = families.to_diffusers("toy", native)
    assert back.keys() == keys.keys() and all(torch.equal(back[k], keys[k]) for k in keys)


def test_its_tokens_stay_where_they_are(toy):
    """A family that says nothing about positions cannot be shown parts of a clip, and says so."""
    spec = families.spec_for(toy)
    with (
        pytest.raises(ValueError, match="positions of toy in diffusers cannot be set"),
        token_positions(toy, [0.0, 5.0]),
    ):
        pass
    with pytest.raises(ValueError, match="toy cannot be set in ComfyUI"), native_positions(toy, spec, [0.0, 5.0]):
        pass
