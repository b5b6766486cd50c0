"""Presets: `paper` changes nothing, names are checked, and the command line hands them on."""

import pytest
import torch
from tiny_dits import build

from det_core.cli.main import build_parser, main
from det_core.models.compute import precision
from det_core.models.compute.precision import Compute, fast_bf16
from det_core.models.denoiser import DiffusersDenoiser
from det_core.models.embedded.base_model import EmbeddedModel
from det_core.models.families import spec_for
from det_core.training.loop import TrainConfig, train_motion_adapter
from det_core.training.presets import PRESETS, preset_config


@pytest.mark.parametrize("family", ["cogvideox", "hunyuan_video"])
def test_paper_is_the_base_models_own(family):
    spec = spec_for(build(family))
    assert preset_config("paper", spec, seed=3) == TrainConfig.for_spec(spec, seed=3)


def test_low_vram_computes_blocks_again_and_changes_nothing_else():
    spec = spec_for(build("wan"))
    assert preset_config("low_vram", spec) == TrainConfig.for_spec(spec, checkpoint="full")
    assert [name for name, preset in PRESETS.items() if preset.low_vram] == ["low_vram"]


def test_fast_costs_a_quarter_and_what_is_asked_for_wins():
    for family in ("cogvideox", "hunyuan_video", "wan"):
        spec = spec_for(build(family))
        fast, own = preset_config("fast", spec), spec.defaults
        assert fast.steps * fast.batch * 4 == pytest.approx(own.steps * own.batch, rel=0.01)
        assert fast.lr == 2 * own.lr and fast.warmup >= own.warmup / 4 and fast.scale == 1
    embedded = preset_config("fast", EmbeddedModel().denoiser.spec)
    assert (embedded.steps, embedded.batch, embedded.lr) == (100, 2, 0.02)
    assert (embedded.decay, embedded.average) == (False, 0.95)
    assert preset_config("fast", spec, steps=7).steps == 7


def test_fast_advises_to_keep_all_blocks():
    model = EmbeddedModel()
    latents, cond = torch.zeros(1, 16, 9, 8, 8), model.encode_prompts(["a red circle on a navy plain background"])
    keeps = {}
    for preset in ("paper", "fast"):
        config = preset_config(preset, model.denoiser.spec, steps=1, decay=False)
        keeps[preset] = train_motion_adapter(model.denoiser, latents, cond, None, config).adapter.keep
    assert keeps == {"paper": [0, 1, 2], "fast": list(range(8))}


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
