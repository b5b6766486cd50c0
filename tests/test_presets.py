"""Presets: `paper` changes nothing, names are checked, and the command line hands them on."""

import pytest
import torch
from tiny_dits import build

from det_core.cli.main import build_parser, main
from det_core.models.compute import precision
from det_core.models.compute.precision import Compute, fast_bf16
from det_core.models.denoiser import DiffusersDenoiser
from det_core.models.families import spec_for
from det_core.training.loop import TrainConfig
from det_core.training.presets import PRESETS, preset_config


@pytest.mark.parametrize("family", ["cogvideox", "hunyuan_video"])
def test_paper_is_the_base_models_own(family):
    spec = spec_for(build(family))
    assert preset_config("paper", spec, seed=3) == TrainConfig.for_spec(spec, seed=3)


def test_low_vram_computes_blocks_again_and_changes_nothing_else():
    spec = spec_for(build("wan"))
    assert preset_config("low_vram", spec) == TrainConfig.for_spec(spec, checkpoint="full")
    assert [name for name, preset in PRESETS.items() if preset.low_vram] == ["low_vram"]


def test_fast_trains_smaller_and_what_is_asked_for_wins():
    spec = spec_for(build("cogvideox"))
    fast = preset_config("fast", spec)
    assert fast.scale < 1 and fast.steps == spec.defaults.steps
    assert preset_config("fast", spec, steps=7, scale=1.0).scale == 1.0


def test_unknown_names_are_refused_with_the_known_ones(capsys):
    with pytest.raises(ValueError, match='no preset "best"; choose paper, fast, low_vram'):
        preset_config("best", spec_for(build("wan")))
    assert main(["train", "--video", "v.mp4", "--out", "a.safetensors", "--preset", "best"]) == 1
    assert "paper" in capsys.readouterr().err


def test_the_command_line_offers_presets_and_checkpointing():
    command = ["train", "--video", "v.mp4", "--out", "a.safetensors"]
    args = build_parser().parse_args(command)
    assert (args.preset, args.checkpoint, args.steps) == ("paper", None, None)
    args = build_parser().parse_args([*command, "--preset", "low_vram", "--checkpoint", "attention"])
    assert (args.preset, args.checkpoint) == ("low_vram", "attention")


def test_bfloat16_is_taken_where_the_processor_has_it(monkeypatch):
    for has, expected in (
        ({"avx512_bf16": True}, True),
        ({"amx_bf16": True, "avx512_bf16": False}, True),
        ({"avx2": True}, False),
    ):
        monkeypatch.setattr(precision.torch.cpu, "get_capabilities", lambda has=has: has, raising=False)
        assert fast_bf16("cpu") is expected
        compute = Compute.on("cpu")
        assert (compute.dtype, compute.bf16) == (torch.float32, expected)
        assert ("has no instructions" in compute.reason) is not expected
    assert fast_bf16("mps") is False
    assert Compute.on("mps").dtype == torch.bfloat16


def test_a_bfloat16_denoiser_computes_in_it_and_answers_in_float32():
    denoiser = DiffusersDenoiser(build("wan"), None)
    x, cond = torch.randn(1, 4, 3, 4, 6), {"encoder_hidden_states": torch.randn(1, 5, 16)}
    seen = []
    denoiser.transformer.blocks[0].attn1.to_q.register_forward_hook(lambda _m, _a, out: seen.append(out.dtype))
    exact = denoiser.predict_velocity(x, torch.tensor([400.0]), cond)
    denoiser.bf16 = True
    rounded = denoiser.predict_velocity(x, torch.tensor([400.0]), cond)
    assert seen == [torch.float32, torch.bfloat16] and rounded.dtype == torch.float32
    assert 0 < (rounded - exact).abs().max() < 0.1 * exact.abs().max()
