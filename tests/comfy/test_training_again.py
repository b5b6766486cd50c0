"""Training in a graph that does other things, too: previews between steps, combined captions, injected LoRAs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch


@pytest.fixture(scope="module")
def embedded(pack):
    """(MODEL, CLIP, VAE, latents of a clip) of the embedded model."""
    from det_pack.nodes.load import DeTTinyModel
    from det_pack.nodes.tiny_clip import DeTTinyClip

    model, clip, vae = DeTTinyModel.execute().result
    frames, caption = DeTTinyClip.execute("loop", "red", "circle", "navy", "plain", 9).result
    return model, clip.encode_from_tokens_scheduled(clip.tokenize(caption)), vae, vae.encode(frames)


def test_after_a_preview_the_model_is_loaded_as_before_with_a_steps_memory_free(embedded, monkeypatch):
    import comfy.model_management as mm
    from det_pack.nodes._comfy.loading.model_spec import model_spec
    from det_pack.nodes._comfy.training.sampler import Sampler
    from det_pack.nodes._comfy.training.trainable import trainable

    model, caption, vae, latents = embedded
    asked: list[tuple] = []
    load = mm.load_models_gpu

    def watched(models, memory_required=0, minimum_memory_required=None, **more):
        asked.append(([type(m.model).__name__ for m in models], memory_required, minimum_memory_required))
        return load(models, memory_required=memory_required, minimum_memory_required=minimum_memory_required, **more)

    monkeypatch.setattr(mm, "load_models_gpu", watched)
    memory = 123 << 20
    with torch.inference_mode(), trainable(model, caption, latents, model_spec(model), memory) as (denoiser, _):
        first = asked[-1]
        assert first[1] >= memory and first[2] >= memory
        Sampler(denoiser, vae, caption, None, latents, 0).frames(None)
        assert len(asked) > 2 and asked[-1] == first


@pytest.mark.parametrize(("told", "negative", "cfg"), [(False, True, 3.0), (False, False, 1.0), (True, True, 1.0)])
def test_a_preview_is_guided_as_its_model_is_sampled(embedded, monkeypatch, told, negative, cfg):
    """A model that is told its guidance is called once a step, whatever negative prompt there is."""
    import comfy.sample
    from det_pack.nodes._comfy.loading.model_spec import model_spec
    from det_pack.nodes._comfy.training.sampler import Sampler
    from det_pack.nodes._comfy.training.trainable import trainable

    model, caption, vae, latents = embedded
    seen = []
    monkeypatch.setattr(comfy.sample, "sample", lambda m, n, steps, cfg, *a, **k: (seen.append(cfg), n)[1])
    with torch.inference_mode(), trainable(model, caption, latents, model_spec(model), 0) as (denoiser, _):
        denoiser.spec = replace(denoiser.spec, embedded_guidance=told)
        Sampler(denoiser, vae, caption, caption if negative else None, latents, 0).frames(None)
    assert seen == [cfg]


def test_captions_that_are_combined_are_refused(embedded):
    from det_pack.nodes._comfy.loading.model_spec import model_spec
    from det_pack.nodes._comfy.training.trainable import trainable

    model, caption, _, latents = embedded
    with pytest.raises(ValueError, match="2 conditionings combined"):
        with trainable(model, caption + caption, latents, model_spec(model), 0):
            pass


def lora(model, rank: int = 4) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    rows, columns = model.model.diffusion_model.blocks[0].q.weight.shape
    name = "diffusion_model.blocks.0.q.lora_{}.weight"
    up, down = torch.randn(rows, rank, generator=generator), torch.randn(rank, columns, generator=generator)
    return {name.format("up"): up, name.format("down"): down}


def test_a_bypassed_lora_is_part_of_what_a_training_is_known_by(embedded, monkeypatch):
    import comfy.sd
    from det_pack.nodes._comfy.training.fingerprint import model_fingerprint

    model, weights = embedded[0], lora(embedded[0])
    queries = model.model.diffusion_model.blocks[0].q  # in bfloat16, to which ComfyUI then rounds the LoRA
    monkeypatch.setitem(queries._parameters, "weight", torch.nn.Parameter(queries.weight.bfloat16(), False))

    def bypassed(strength: float, **more):
        given = {name: value.clone() for name, value in weights.items()}
        return comfy.sd.load_bypass_lora_for_models(model, None, given | more, strength, 0)[0]

    one = bypassed(1.0)
    other = {name: value + 1 for name, value in weights.items()}
    known = [model_fingerprint(m) for m in (model, one, bypassed(0.5), bypassed(1.0, **other))]
    assert len(set(known)) == 4
    assert model_fingerprint(bypassed(1.0)) == known[1]
    one.inject_model()
    try:
        assert model_fingerprint(one) == known[1]
    finally:
        one.eject_model()
