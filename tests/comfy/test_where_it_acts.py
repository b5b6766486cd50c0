"""Apply Motion Adapter with a mask and with curves: elsewhere nothing changes, and 1 everywhere is no curve."""

from __future__ import annotations

import pytest
import torch

SHAPE = (1, 16, 9, 8, 8)  # of the embedded model: 9 latent frames, a token a cell


@pytest.fixture(scope="module")
def embedded(pack):
    """(MODEL, empty CONDITIONING, an adapter as if trained) of the embedded model."""
    from det_pack.det_core.adapter.motion_adapter import MotionAdapter
    from det_pack.nodes._comfy.loading.model_spec import model_spec
    from det_pack.nodes.load import DeTTinyModel

    model, clip, _ = DeTTinyModel.execute().result
    generator = torch.Generator().manual_seed(2)
    adapter = MotionAdapter.create(model_spec(model), 8, 3, generator=generator).requires_grad_(False)
    for kernel in adapter.blocks.values():
        kernel.up.weight.normal_(std=0.1, generator=generator)
    return model, clip.encode_from_tokens_scheduled(clip.tokenize("")), adapter


def applied(embedded, **changes):
    from det_pack.nodes.apply import DeTApplyMotionAdapter

    model, _, adapter = embedded
    settings = {"strength": 1.0, "drop_fraction": 0.0, **changes}
    return DeTApplyMotionAdapter.execute(model, adapter, **settings).result[0]


def sampled(model, cond, steps: int = 3, seen: list | None = None) -> torch.Tensor:
    import comfy.sample

    noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(4))
    with torch.inference_mode():
        return comfy.sample.sample(
            model, noise, steps, 1.0, "euler", "simple", cond, cond, torch.zeros(SHAPE), disable_pbar=True, seed=0
        ).clone()


def constant(value: float) -> dict:
    return {"points": [[0.0, value], [1.0, value]], "interpolation": "linear"}


def test_one_everywhere_is_bit_identical_to_nothing(embedded):
    cond = embedded[1]
    plain = sampled(applied(embedded), cond)
    for where in (
        {"mask": torch.ones(1, 64, 64)},
        {"over_frames": constant(1.0)},
        {"over_sampling": constant(1.0)},
        {"mask": torch.ones(9, 20, 30), "over_frames": constant(1.0), "over_sampling": constant(1.0)},
    ):
        assert torch.equal(sampled(applied(embedded, **where), cond), plain)


def test_two_halves_act_apart_and_zero_is_the_model_itself(embedded):
    model, cond, _ = embedded
    base = sampled(model, cond)
    left = torch.zeros(1, 64, 64)
    left[..., :32] = 1
    moved = {side: sampled(applied(embedded, mask=mask), cond) for side, mask in (("left", left), ("right", 1 - left))}
    change = {side: (video - base).abs().mean((0, 1, 2, 3)) for side, video in moved.items()}  # by column
    assert change["left"][:4].sum() > change["left"][4:].sum()
    assert change["right"][4:].sum() > change["right"][:4].sum()
    assert torch.equal(sampled(applied(embedded, over_frames=constant(0.0)), cond), base)
    assert torch.equal(sampled(applied(embedded, over_sampling=constant(0.0)), cond), base)


def test_a_curve_over_the_sampling_is_read_at_each_step(embedded):
    cond = embedded[1]
    early = {"points": [[0.0, 1.0], [0.5, 1.0], [0.5001, 0.0], [1.0, 0.0]], "interpolation": "linear"}
    by_curve = sampled(applied(embedded, over_sampling=early), cond, steps=6)
    by_end = sampled(applied(embedded, end_percent=0.5), cond, steps=6)
    assert torch.allclose(by_curve, by_end, atol=1e-4)
    half = sampled(applied(embedded, over_sampling=constant(0.5)), cond)
    assert torch.equal(half, sampled(applied(embedded, strength=0.5), cond))


def test_the_share_of_the_sampling_is_the_inverse_of_percent_to_sigma(embedded, pack):
    from comfy.model_sampling import ModelSamplingDiscreteFlow
    from det_pack.nodes._comfy.sampling.adapter_wrapper import done_at

    flow = ModelSamplingDiscreteFlow()
    flow.set_parameters(shift=5.0)
    for sampling in (flow, embedded[0].get_model_object("model_sampling")):
        for share in (0.1, 0.35, 0.8, 0.99):
            assert done_at(sampling, sampling.percent_to_sigma(share)) == pytest.approx(share, abs=2e-3)
        assert done_at(sampling, float(sampling.sigma_max)) == pytest.approx(0, abs=1e-3)


def test_a_black_mask_is_refused(embedded):
    with pytest.raises(ValueError, match="black everywhere"):
        applied(embedded, mask=torch.zeros(1, 64, 64))


def test_every_block_that_acts_has_a_bar(embedded, tmp_path, monkeypatch):
    import folder_paths
    from det_pack.nodes.blocks import DeTShowBlocks

    monkeypatch.setattr(folder_paths, "temp_directory", str(tmp_path))
    model, cond, _ = embedded
    video = {"samples": torch.randn(SHAPE, generator=torch.Generator().manual_seed(5))}
    bars, report = DeTShowBlocks.execute(applied(embedded, blocks="0, 2-3"), cond, video, 0.2).result
    assert bars.shape == (1, 360, 960, 3)
    assert [line.split(":")[0] for line in report.split("\n")] == ["block 0", "block 2", "block 3"]
    halved = DeTShowBlocks.execute(applied(embedded, blocks="0", strength=0.5), cond, video, 0.2).result[1]
    assert float(halved.split()[-1]) == pytest.approx(float(report.split("\n")[0].split()[-1]) / 2, rel=0.02)
    with pytest.raises(ValueError, match="no motion adapter on it"):
        DeTShowBlocks.execute(model, cond, video, 0.2)
    with pytest.raises(ValueError, match="no adapter on this MODEL acts at 0.9"):
        DeTShowBlocks.execute(applied(embedded, end_percent=0.5), cond, video, 0.9)


@pytest.mark.parametrize("anchored", [False, True])
def test_context_windows_do_not_begin_masks_and_curves_anew(embedded, anchored, monkeypatch):
    from comfy_extras.nodes_context_windows import ContextWindowsManualNode
    from det_pack.det_core.adapter.placement import Placement

    seen: list[list[float]] = []
    weights = Placement.weights

    def watched(self, grid, *window):
        made = weights(self, grid, *window)
        seen.append([round(8 * value) for value in made.view(grid).mean((1, 2)).tolist()])
        return made

    monkeypatch.setattr(Placement, "weights", watched)
    ramp = {"points": [[0.0, 0.0], [1.0, 1.0]], "interpolation": "linear"}
    mask = torch.linspace(0, 1, 9)[:, None, None].expand(9, 8, 8)
    for where in ({"over_frames": ramp}, {"mask": mask}):
        seen.clear()
        settings = (5, 2, "standard_static", 1, False, "pyramid", 2, False)
        windows = ContextWindowsManualNode.execute(applied(embedded, **where), *settings, causal_window_fix=anchored)
        sampled(windows.result[0], embedded[1], steps=1)
        later = [3, 4, 5, 6, 7] if not anchored else [2, 3, 4, 5, 6, 7]
        assert [0, 1, 2, 3, 4] in seen and later in seen, seen
