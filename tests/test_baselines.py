"""The methods DeT is compared with: what they add to a model, what they leave alone, and the files others can read."""

import pytest
import torch
from tiny_dits import FAMILIES, build, call_for

from det_core.baselines.motion_director import debiased_loss
from det_core.baselines.motion_inversion import MotionInversion
from det_core.models.families import spec_for
from det_core.models.families.projections import projections
from det_core.models.families.spec import video_slice

# ---------------------------------------------------------------------------------------- MotionInversion


def filled_inversion(model, grid):
    inversion = MotionInversion(model, grid)
    g = torch.Generator().manual_seed(3)
    for p in inversion.parameters():
        p.data = torch.randn(p.shape, generator=g)
    return inversion


@pytest.mark.parametrize("family", FAMILIES)
def test_motion_inversion_shifts_what_the_projections_of_video_tokens_read(family):
    model = build(family)
    call = call_for(family, model)
    inversion = filled_inversion(model, call.grid)
    spec, time, places = spec_for(model), call.grid[0], call.grid[1] * call.grid[2]
    block = spec.num_blocks - 1
    read = {}
    for kind in "qkv":
        layer = model.get_submodule(projections(spec)[block, kind].path)

        def look(_m, args, _out, kind=kind):  # after it ran: what it read, hooks included
            read.setdefault(kind, []).append(args[0].detach())

        layer.register_forward_hook(look)
    with torch.no_grad():
        call(model)
        # Only this block's embeddings: the inputs of the block are those of the plain model.
        only = filled_inversion(model, call.grid)
        for i in range(block):
            only.time.data[i], only.place.data[i] = 0, 0
        with only.attached_to(model, 0.5):
            call(model)
        only.eval()
        with only.attached_to(model, 0.5):
            call(model)
    time_part = inversion.time[block].repeat_interleave(places, 0)
    place_part = inversion.place[block].repeat(time, 1)
    for kind, embedding in (("q", time_part), ("k", time_part), ("v", place_part)):
        plain, trained, sampled = read[kind]
        added = (trained - plain)[0]
        video = added[video_slice(spec.attention, len(added), call.grid, "here")]
        torch.testing.assert_close(video, 0.5 * embedding.detach(), rtol=1e-3, atol=1e-4)
        assert added.abs().sum() == pytest.approx(video.abs().sum().item(), rel=1e-4), "text is left alone"
        assert torch.equal(sampled, plain if kind == "v" else trained), "no place embeddings at sampling"


def test_motion_inversion_starts_as_no_change_learns_and_refuses_other_sizes():
    model = build("wan")
    call = call_for("wan", model)
    inversion = MotionInversion(model, call.grid)
    with inversion.attached_to(model):
        out = call(model)
    assert torch.equal(out, call(model))
    out.square().mean().backward()
    assert inversion.time.grad.abs().sum() > 0 and inversion.place.grad.abs().sum() > 0
    with pytest.raises(ValueError, match="for a video of"), inversion.attached_to(model):
        call_for("wan", model, (5, 4, 6))(model)
    with pytest.raises(ValueError, match="2 blocks of 32 channels"), inversion.attached_to(build("wan", blocks=3)):
        pass
    assert torch.equal(call(model), out)


# ------------------------------------------------------------------------------------------ MotionDirector


def test_the_debiased_loss_is_the_formula_and_does_not_see_a_shared_appearance():
    g = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 3, 5, 4, 2, generator=g), torch.randn(2, 3, 5, 4, 2, generator=g)
    by_hand = sum((2**0.5 * (a - b)[:, :, t] - (a - b)[:, :, 3]).square().mean() for t in range(5)) / 5
    torch.testing.assert_close(debiased_loss(a, b, 3), by_hand)
    shared = torch.randn(2, 3, 1, 4, 2, generator=g)
    kept = debiased_loss(a + shared, a, 0) / shared.square().mean()
    assert kept.item() == pytest.approx((2**0.5 - 1) ** 2, rel=1e-4), "an error common to all frames counts a sixth"
    assert debiased_loss(a.bfloat16(), b.bfloat16(), 0).dtype == torch.float32


# ------------------------------------------------------------------------------------------ beside the attention
