"""Step-Video-T2V against vectors of StepFun's own code at small random weights, which are not in this project."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from safetensors import safe_open
from torch import nn
from transformers import BertConfig, BertModel

from det_core.models.families.stepvideo import STEP_VIDEO
from det_core.models.stepvideo.rotary import axis_angles, rotary_table, rotate
from det_core.models.stepvideo.step_llm import StepLLM, slopes
from det_core.models.stepvideo.transformer import StepVideoTransformer, time_sines
from det_core.models.stepvideo.vae import StepVideoVAE, channel_average, shuffle, unshuffle

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "data" / "stepvideo"

if not FOLDER.is_dir():
    warnings.warn(f"NOT TESTED: the vectors of Step-Video's reference code are not at {FOLDER}", stacklevel=1)
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"NOT TESTED: no reference vectors at {FOLDER}")


def read(name: str) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    with safe_open(FOLDER / f"{name}.safetensors", "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata()


def weights(tensors: dict[str, torch.Tensor], prefix: str = "weights.") -> dict[str, torch.Tensor]:
    return {key.removeprefix(prefix): value.float() for key, value in tensors.items() if key.startswith(prefix)}


def apart(ours: torch.Tensor, reference: torch.Tensor) -> float:
    assert ours.shape == reference.shape
    return (ours.float() - reference.float()).abs().max().item()


def transformer_of(name: str) -> tuple[StepVideoTransformer, dict[str, torch.Tensor]]:
    tensors, about = read(name)
    model = StepVideoTransformer(
        num_heads=int(about["heads"]),
        head_width=int(about["head_dim"]),
        num_layers=int(about["layers"]),
        in_channels=int(about["in_channels"]),
        caption_channels=tuple(json.loads(about["caption_channels"])),
    )
    model.load_state_dict(weights(tensors))
    return model.eval().requires_grad_(False), tensors


def inputs(tensors: dict[str, torch.Tensor], case: str) -> list[torch.Tensor]:
    names = (
        "hidden_states",
        "timestep",
        "encoder_hidden_states",
        "encoder_hidden_states_2",
        "encoder_attention_mask",
    )
    return [tensors[f"{case}.in.{name}"] for name in names]


WIDTHS = ("transformer_hd128", "transformer_hd16")


@pytest.mark.parametrize("case", ["a", "b"])
@pytest.mark.parametrize("name", WIDTHS)
def test_transformer(name, case):
    model, tensors = transformer_of(name)
    assert apart(model(*inputs(tensors, case)), tensors[f"{case}.out"]) < 2e-5


@pytest.mark.parametrize("case", ["a", "b"])
def test_transformer_in_bfloat16(case):
    model, tensors = transformer_of("transformer_hd128")
    out = model.bfloat16()(*(x.bfloat16() for x in inputs(tensors, case)))
    assert apart(out, tensors[f"{case}.out_bf16"]) < 0.05


@pytest.mark.parametrize("name", WIDTHS)
def test_transformer_inside(name):
    model, tensors = transformer_of(name)
    seen: dict[str, torch.Tensor] = {}

    def remember(key: str, module: nn.Module) -> None:
        def hook(_module, args, out):
            seen[f"{key}.input"], seen[f"{key}.output"] = args[0], out

        module.register_forward_hook(hook)

    for index, block in enumerate(model.transformer_blocks):
        remember(f"block{index}", block)
        for part in ("attn1", "attn2", "ff"):
            remember(f"block{index}.{part}", getattr(block, part))
    model(*inputs(tensors, "a"))
    names = [key.removeprefix("a.mid.") for key in tensors if key.startswith("a.mid.block")]
    inside = [name for name in names if name in seen]
    assert len(inside) >= 4
    assert {name: apart(seen[name], tensors[f"a.mid.{name}"]) for name in inside} == pytest.approx(
        dict.fromkeys(inside, 0.0), abs=5e-6
    )
    time = tensors["a.in.timestep"]
    assert apart(time_sines(time), tensors["a.mid.time_sinusoid"]) < 2e-5
    modulation, embedding = model.adaln_single(time, torch.float32)
    assert apart(embedding, tensors["a.mid.embedded_timestep"]) < 2e-5
    assert apart(modulation, tensors["a.mid.modulation"]) < 2e-5


@pytest.mark.parametrize("name", WIDTHS)
def test_block_and_attention_alone(name):
    model, tensors = transformer_of(name)
    block = model.transformer_blocks[0]
    table = rotary_table((range(3), range(2), range(4)), model.head_width)
    allowed = tensors["block.in.attn_mask"][:, None]
    mask = torch.zeros(allowed.shape).masked_fill(~allowed, -torch.inf)
    x, text, modulation = (tensors[f"block.in.{key}"] for key in ("q", "kv", "timestep"))
    assert apart(block(x, text, modulation, mask, table, {}), tensors["block.out"]) < 2e-5
    assert apart(block.attn1(tensors["selfattention.in"], table, {}), tensors["selfattention.out"]) < 2e-5


@pytest.mark.parametrize("width", [128, 16])
def test_rotary(width):
    tensors, _ = read("rope")
    table = rotary_table((range(3), range(2), range(5)), width)
    for ours, name in zip(table, ("cos", "sin"), strict=True):
        assert apart(ours, tensors[f"{name}_{width}.float32"]) < 5e-6
    assert apart(rotate(tensors[f"tokens_{width}.float32"], table), tensors[f"rotated_{width}.float32"]) < 5e-6


def test_the_reference_rounds_the_angle():
    """Rounded as the reference does, our angles give its bfloat16 table bit for bit; the model uses them unrounded."""
    tensors, _ = read("rope")
    angles = axis_angles(torch.arange(64), 64)
    assert apart(angles.cos(), tensors["cos_t64.float32"]) < 5e-6
    assert torch.equal(angles.bfloat16().cos(), tensors["cos_t64.bfloat16"])


@pytest.fixture(scope="module")
def codec():
    tensors, _ = read("vae")
    model = StepVideoVAE(
        latent_channels=2, base=32, encoder_widths=(32,) * 4, decoder_widths=(32, 32, 64, 32), blocks=1
    )
    model.load_state_dict(weights(tensors))
    return model.eval().requires_grad_(False), tensors


def channels_first(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float().transpose(1, 2)  # the reference's axes are (batch, frames, channels, height, width)


def test_vae_encodes(codec):
    model, tensors = codec
    pixels = channels_first(tensors["encode.pixels"])
    assert apart(model.moments(pixels), channels_first(tensors["encode.moments"])) < 2e-5
    assert apart(model.moments(pixels[:, :, :1]), channels_first(tensors["encode.moments_1_frames"])) < 2e-5
    assert apart(model.encoder(pixels[:, :, :9]), channels_first(tensors["encode.moments_9_frames"])) < 2e-5


def test_vae_decodes(codec):
    model, tensors = codec
    latents = channels_first(tensors["decode.latents"])
    assert apart(model.decode(latents), channels_first(tensors["decode.pixels"])) < 2e-5
    assert apart(model.decode(latents[:, :, :1]), channels_first(tensors["decode.one_latent"])) < 2e-5
    unmixed = torch.cat([model.decoder(chunk) for chunk in latents.split(3, dim=2)], dim=2)[:, :, 15:19]
    assert apart(unmixed, channels_first(tensors["decode.before_mix"])) < 2e-5


def test_vae_shortcuts(codec):
    _, tensors = codec
    fold, spread = tensors["piece.unshuffle_average.in"], tensors["piece.duplicate_shuffle.in"]
    assert torch.equal(channel_average(unshuffle(fold), 8), tensors["piece.unshuffle_average.out"])
    assert torch.equal(shuffle(spread.repeat_interleave(16, dim=1)), tensors["piece.duplicate_shuffle.out"])


def test_step_llm():
    tensors, _ = read("text_encoders")
    model = StepLLM(dim=48, heads=6, groups=2, layers=2, ffn=200, vocabulary=40)
    model.load_state_dict(weights(tensors, "step_llm.weights."))
    with torch.no_grad():
        states = model(tensors["step_llm.in.input_ids"])
    assert apart(states, tensors["step_llm.out.sqrt_alibi"]) < 1e-5
    assert apart(states, tensors["step_llm.out.causal_only"]) > 0.1  # the bias matters
    for heads in (6, 48):
        assert apart(slopes(heads), tensors[f"step_llm.slopes_{heads}"]) < 5e-6


def test_hunyuan_clip():
    tensors, _ = read("text_encoders")
    config = BertConfig(
        hidden_size=32,
        num_attention_heads=4,
        num_hidden_layers=2,
        intermediate_size=64,
        vocab_size=60,
        max_position_embeddings=80,
        layer_norm_eps=1e-12,
    )
    model = BertModel(config).eval()
    model.load_state_dict(weights(tensors, "hunyuan_clip.weights."))
    ids, mask = tensors["hunyuan_clip.in.input_ids"], tensors["hunyuan_clip.in.attention_mask"]
    with torch.no_grad():
        states = model(ids, attention_mask=mask).last_hidden_state
    assert apart(states, tensors["hunyuan_clip.out.last_hidden_state"]) < 2e-5


@pytest.mark.parametrize(("steps", "shift"), [(50, 13), (30, 13), (15, 17), (10, 17)])
def test_schedule(steps, shift):
    tensors, _ = read("scheduler")
    assert apart(1 - schedule(steps, shift).sigmas, tensors[f"sigmas_{steps}_{shift}"]) < 5e-6


@pytest.mark.parametrize("shift", [13, 17])
def test_euler_steps(shift):
    tensors, _ = read("scheduler")
    scheduler, x = schedule(10, shift), tensors[f"shift{shift}.samples"][0]
    assert apart(1 - scheduler.timesteps / 1000, tensors[f"shift{shift}.timesteps"]) < 5e-6
    for i, t in enumerate(scheduler.timesteps):
        x = scheduler.step(-tensors[f"shift{shift}.velocities"][i], t, x, return_dict=False)[0]
        assert apart(x, tensors[f"shift{shift}.samples"][i + 1]) < 5e-6


def schedule(steps: int, shift: float) -> FlowMatchEulerDiscreteScheduler:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(**STEP_VIDEO.times(scheduler, steps, (1, 1, 1)))
    return scheduler
