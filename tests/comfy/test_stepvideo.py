"""Step-Video-T2V in ComfyUI: the native MODEL, VAE and CLIP against det_core's modules, and the nodes around them."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]


def comfy(name: str):
    return importlib.import_module(f"det_pack.nodes.{name}")


@pytest.fixture
def module(small):
    return small.transformer()


@pytest.fixture
def model(module):
    return built(module)


def built(module, **options):
    with torch.inference_mode(False):
        state = {key: tensor.clone() for key, tensor in module.state_dict().items()}
        return comfy("_comfy.loading.stepvideo").build(state, options)


def prompts(small) -> tuple[list, list]:
    """Conditionings of 5 and 3 tokens of Step-LLM, as the CLIP gives them: cut to their own length."""
    _, _, llm, clip, _ = small.transformer_inputs()
    return [[llm[1:], {"clip_context": clip[1:]}]], [[llm[:1, :3], {"clip_context": clip[:1]}]]


def sampled(model, small, steps=10, cfg=9.0, noise=None):
    import comfy.sample

    noise = small.noise(41, 1, 4, 3, 2, 4) if noise is None else noise
    positive, negative = prompts(small)
    return comfy.sample.sample(
        model, noise, steps, cfg, "euler", "simple", positive, negative, torch.zeros_like(noise), seed=1
    )


@torch.no_grad()
def own_loop(module, small, steps=10, cfg=9.0, shift=13.0):
    """The model's own loop: both prompts in one masked batch, time from noise (0) to data (1)."""
    _, _, llm, clip, mask = small.transformer_inputs()
    u = torch.linspace(1, 0, steps + 1)
    times = 1 - shift * u / (1 + (shift - 1) * u)
    x = small.noise(41, 1, 4, 3, 2, 4).transpose(1, 2)
    for now, then in zip(times, times[1:], strict=False):
        without, with_prompt = module(torch.cat([x, x]), now.expand(2), llm, clip, mask).chunk(2)
        x = x + (without + cfg * (with_prompt - without)) * (then - now)
    return x.transpose(1, 2)


class TestModel:
    def test_ksampler_equals_the_models_own_loop(self, model, module, small):
        assert (sampled(model, small) - own_loop(module, small)).abs().max() < 1e-5

    def test_the_stock_node_shifts_it(self, model, module, small):
        from comfy_extras.nodes_model_advanced import ModelSamplingSD3

        shifted = ModelSamplingSD3().patch(model, shift=17.0)[0]
        assert (sampled(shifted, small, cfg=5.0) - own_loop(module, small, cfg=5.0, shift=17.0)).abs().max() < 1e-5

    def test_fp8_keeps_vectors_and_tables(self, module, small):
        fp8 = built(module, dtype=torch.float8_e4m3fn)
        kinds = {name: p.dtype for name, p in fp8.model.diffusion_model.named_parameters()}
        assert kinds["transformer_blocks.0.attn1.wqkv.weight"] == torch.float8_e4m3fn
        small_ones = {d for n, d in kinds.items() if n.endswith(("bias", "scale_shift_table", "norm.weight"))}
        assert small_ones == {torch.bfloat16}
        assert torch.isfinite(sampled(fp8, small, steps=2)).all()

    def test_a_lora_file_acts_as_in_det_core(self, model, module, small):
        import comfy.sd

        lora_room = importlib.import_module("det_pack.det_core.lora.lora")
        files = importlib.import_module("det_pack.det_core.lora.file")
        families = importlib.import_module("det_pack.det_core.models.families")
        lora = lora_room.LoRA(module, 2, torch.Generator().manual_seed(0), heads=[[0], [1, 2], []])
        for part in lora.parameters():
            torch.nn.init.normal_(part, std=0.2, generator=torch.Generator().manual_seed(part.numel()))
        tensors = files.lora_tensors(lora, families.spec_for(module))
        changed, _ = comfy.sd.load_lora_for_models(model, None, {k: t.detach() for k, t in tensors.items()}, 1.0, 0)
        with lora.attached_to(module):
            expected = own_loop(module, small, steps=2)
        assert (sampled(changed, small, steps=2) - expected).abs().max() < 1e-4
        assert (expected - own_loop(module, small, steps=2)).abs().max() > 1e-2

    def test_a_conditioning_of_another_model_is_refused(self, model, small):
        import comfy.sample

        noise = torch.zeros(1, 4, 3, 2, 4)
        other = [[torch.zeros(1, 5, 24), {}]]
        with pytest.raises(ValueError, match="not of Step-Video's text encoders"):
            comfy.sample.sample(model, noise, 1, 1.0, "euler", "simple", other, other, noise, seed=1)

    def test_new_adapter_is_a_bit_exact_no_op_and_the_base_stays(self, model, small):
        motion = importlib.import_module("det_pack.det_core.adapter.motion_adapter")
        apply = comfy("_comfy.sampling.adapter_wrapper")
        spec = apply.model_spec(model)
        base = sampled(model, small, steps=2)
        adapter = motion.MotionAdapter.create(spec, mid_dim=8, kernel_size=5)
        assert torch.equal(sampled(apply.apply_adapter(model, adapter, [0, 1, 2], 1.0), small, steps=2), base)
        for kernel in adapter.blocks.values():
            torch.nn.init.normal_(kernel.up.weight, std=0.1)
        assert (sampled(apply.apply_adapter(model, adapter, [0], 1.0), small, steps=2) - base).abs().max() > 1e-3
        assert torch.equal(sampled(model, small, steps=2), base)

    def test_training_reaches_every_block(self, model, small):
        spec = comfy("_comfy.loading.model_spec").model_spec(model)
        motion = importlib.import_module("det_pack.det_core.adapter.motion_adapter")
        adapter = motion.MotionAdapter.create(spec, mid_dim=8, kernel_size=5)
        for kernel in adapter.blocks.values():
            torch.nn.init.normal_(kernel.up.weight, std=0.1)
        latents, t = small.noise(5, 1, 4, 3, 2, 4), torch.tensor([400.0])
        gradients = []
        trainable = comfy("_comfy.training.trainable").trainable
        for policy in ("none", "full"):
            with trainable(model, prompts(small)[0], latents, spec, 0) as (denoiser, x0):
                with denoiser.checkpointed(policy), denoiser.attached(adapter.requires_grad_(True)):
                    loss = denoiser.predict_x0(denoiser.add_noise(x0, x0 * 0 + 1, t), t, {}).square().mean()
                    gradients.append(torch.autograd.grad(loss, list(adapter.parameters())))
        for plain, again in zip(*gradients, strict=True):
            assert plain.abs().max() > 0 and torch.allclose(plain, again, rtol=1e-4, atol=1e-7)

    @torch.no_grad()
    def test_heads_are_classified_and_both_loras_learn(self, model, small, tmp_path, monkeypatch):
        from det_pack.nodes._comfy.loading import paths

        monkeypatch.setattr(paths, "state_path", lambda name: tmp_path / f"{name}.state.safetensors")
        latents = {"samples": small.noise(43, 1, 4, 6, 2, 4)}
        positive, _ = prompts(small)
        with torch.inference_mode():
            classify = comfy("fym_heads").FYMClassifyHeads
            heads = classify.execute(model, latents, positive, "balanced", 1, 900.0, 0).args[0]
            train = comfy("fym_train").FYMTrainMotionLoRA
            out = train.execute(model, latents, positive, heads, 2, 2, 1e-2, 4, 3, 1, "run", False, True, 0)
        for lora in out.args[:2]:
            ups = [tensor for name, tensor in lora.items() if "lora_up" in name]
            assert ups and max(up.abs().max() for up in ups) > 0

    def test_chosen_frames_stand_where_they_do_in_the_whole(self, model, module, small):
        spec = comfy("_comfy.loading.model_spec").model_spec(model)
        x, t, llm, clip, _ = small.transformer_inputs()
        positions = importlib.import_module("det_pack.det_core.models.families.positions")
        with positions.native_positions(model.model.diffusion_model, spec, [0.0, 2.0, 5.0]) as options:
            found = model.model.diffusion_model(x.transpose(1, 2), t, llm, clip, options)
        expected = module(x, t, llm, clip, positions=([0, 2, 5], range(2), range(4)))
        assert (found + expected.transpose(1, 2)).abs().max() < 1e-5


class TestLoading:
    def test_the_published_folder_and_one_file(self, folder, small, tmp_path):
        import stepvideo_folder
        from safetensors.torch import save_file

        load_dit = comfy("_comfy.loading.dit_loader").load_dit
        save_file(stepvideo_folder.transformer().state_dict(), tmp_path / "one.safetensors")
        models = [load_dit(folder / "transformer"), load_dit(tmp_path / "one.safetensors")]
        states = [m.model.diffusion_model.state_dict() for m in models]
        assert states[0].keys() == states[1].keys() and all(torch.equal(states[0][k], states[1][k]) for k in states[0])
        assert models[0].cached_patcher_init[1] == (str(folder / "transformer"), "default")

    def test_the_image_to_video_model_is_refused(self, small, tmp_path):
        from safetensors.torch import save_file

        state = {**small.transformer().state_dict(), "pos_embed.proj.weight": torch.zeros(48, 8, 1, 1)}
        save_file(state, tmp_path / "ti2v.safetensors")
        with pytest.raises(ValueError, match="ti2v.safetensors: these weights are of Step-Video-TI2V"):
            comfy("_comfy.loading.dit_loader").load_dit(tmp_path / "ti2v.safetensors")


class TestVAE:
    @pytest.fixture(scope="class")
    def vae(self, folder):
        return comfy("_comfy.loading.stepvideo_vae").load_vae(folder / "vae" / "vae_v2.safetensors")

    def test_the_stock_nodes_code_a_video(self, vae, small):
        import stepvideo_folder

        from nodes import VAEDecode, VAEDecodeTiled, VAEEncode

        module, frames = stepvideo_folder.vae(), torch.rand(34, 32, 48, 3)
        latent = VAEEncode().encode(vae, frames)[0]["samples"]
        with torch.no_grad():
            expected = module.encode((frames * 2 - 1).permute(3, 0, 1, 2)[None])
            pixels = (module.decode(expected)[0].permute(1, 2, 3, 0) / 2 + 0.5).clamp(0, 1)
        assert (latent - expected).abs().max() < 1e-5
        assert (VAEDecode().decode(vae, {"samples": latent})[0] - pixels).abs().max() < 1e-5
        tiled = VAEDecodeTiled().decode(vae, {"samples": latent}, 64, overlap=0)[0]
        assert (tiled - pixels).abs().max() < 1e-5, "a tile that holds the whole picture changes nothing"

    def test_other_lengths_are_refused_before_any_work(self, vae):
        with pytest.raises(ValueError, match="17k frames, not 49: ask for 34 or 51 frames"):
            vae.encode(torch.zeros(49, 32, 32, 3))

    def test_version_1_is_refused_with_the_files_name(self, pack, tmp_path):
        from safetensors.torch import save_file

        save_file({"decoder.conv_in.weight": torch.zeros(1)}, tmp_path / "vae.safetensors")
        with pytest.raises(ValueError, match="vae.safetensors: this is not version 2"):
            comfy("_comfy.loading.stepvideo_vae").load_vae(tmp_path / "vae.safetensors")


def test_empty_latents_follow_the_codec(pack):
    node = comfy("stepvideo").DeTEmptyStepVideoLatent
    assert node.execute(768, 512, 51, 2)[0]["samples"].shape == (2, 64, 9, 32, 48)
    with pytest.raises(ValueError, match="ask for 34 or 51"):
        node.execute(768, 512, 49, 1)


def training_graph(steps: int, **inputs) -> dict:
    """The template's graph up to the saved adapter, small."""
    from graphs import shrunk, workflow

    graph = shrunk(workflow("transfer_step_video"))
    for node in graph.values():
        if node["class_type"] == "DeTTrainMotionAdapter":
            node["inputs"] |= {"steps": steps, "preview_every": 0, "run_name": "step", **inputs}
        elif node["class_type"] == "DeTSaveMotionAdapter":
            node["inputs"] |= {"name": "step", "overwrite": True}
    dropped = ("DeTApplyMotionAdapter", "KSampler", "VAEDecodeTiled", "CreateVideo", "SaveVideo", "DeTEvaluateMotion")
    dropped += ("MarkdownNote", "LossGraphNode", "DeTEmptyStepVideoLatent", "DeTCompareVideos")
    return {number: node for number, node in graph.items() if node["class_type"] not in dropped}


def test_training_over_http_resumes_after_a_kill(server, tmp_path):
    """kill -9 after step 50, start again, resume: the adapter is that of an undisturbed run, to the bit."""
    from comfy_server import ComfyServer
    from graphs import wait_for_step
    from safetensors.torch import load_file

    server.run(training_graph(70))
    expected = load_file(server.base / "models" / "det_adapters" / "step.safetensors")
    own = ComfyServer(server.comfyui, ROOT, tmp_path)
    for name in ("models/diffusers", "input"):
        (tmp_path / name).rmdir()
        (tmp_path / name).symlink_to(server.base / name, target_is_directory=True)
    try:
        own.start()
        own.queue(training_graph(70))
        wait_for_step(own, "step", 50)
        own.stop(kill=True)
        own.start()
        own.run(training_graph(70, resume=True))
    finally:
        own.stop()
    actual = load_file(tmp_path / "models" / "det_adapters" / "step.safetensors")
    assert expected.keys() == actual.keys() and all(torch.equal(expected[key], actual[key]) for key in expected)
    assert {int(key.split(".")[1]) for key in actual} == {0, 1, 2}
