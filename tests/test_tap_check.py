"""A model is read along in one call: every family's taps are passed in order, and what differs is named."""

import pytest
import torch
from tiny_dits import build, call_for

from det_core.adapter.tap_check import TapWatch
from det_core.models.families import spec_for

GRID = (3, 4, 6)


@pytest.mark.parametrize("family", ["cogvideox", "hunyuan_video", "wan", "ltx"])
def test_every_family_is_as_it_is_described(family):
    model = build(family)
    spec = spec_for(model)
    watch = TapWatch(spec, spec.grid(GRID), "this model")
    with watch.watching(model):
        call_for(family, model, GRID, batch=1)(model)
    watch.finish()
    assert watch.passed == list(range(spec.num_blocks))


@torch.no_grad()
def test_what_is_left_out_is_named(monkeypatch):
    model = build("wan", blocks=3)
    spec = spec_for(model)
    watch = TapWatch(spec, spec.grid(GRID), "Wan of program 2")
    monkeypatch.setattr(model.blocks[1], "forward", lambda x, *args, **kwargs: x)
    with watch.watching(model):
        call_for("wan", model, GRID, batch=1)(model)
    watch.finish(whole=False)  # something may answer in place of a block
    with pytest.raises(ValueError, match="Wan of program 2 has other code .* module blocks.1.attn1 is never called"):
        watch.finish()
