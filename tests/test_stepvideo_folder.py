"""A folder of Step-Video-T2V as published: its prompts, its codec, and what is said where something is missing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import stepvideo_folder
import stepvideo_golden as small
import torch

from det_core.models.base_model import base_model_spec, load_base_model
from det_core.models.sample import sample
from det_core.models.stepvideo.prompt import NEGATIVE_PROMPT, POSITIVE_SUFFIX, clip_tokens, llm_tokens


class Words:
    """A tokenizer of one id a word, for both encoders."""

    def encode(self, text, **_):
        return [10 + i for i, _ in enumerate(text.split())]

    def __call__(self, text, **_):
        return {"input_ids": self.encode(text)}

    def decode(self, ids):
        return " ".join(str(i) for i in ids)


class TestPrompts:
    def test_short_prompts(self):
        assert llm_tokens("a b", Words()) == [1, 10, 11, 2]
        ids, count = clip_tokens("a b", Words())
        assert ids == [101, 10, 11, 102] + [0] * 73 and count == 4
        assert llm_tokens("", Words()) == [1, 2]

    def test_what_is_cut_is_said(self, caplog):
        long = "word " * 320
        assert len(llm_tokens(long, Words())) == 320
        assert "Step-LLM reads 318: it does not see '328 329'" in caplog.text
        ids, count = clip_tokens(long, Words())
        assert (len(ids), count, ids[-1]) == (77, 77, 102)
        assert "the Hunyuan CLIP reads 75" in caplog.text


def test_the_template_shows_the_same_words():
    path = Path(__file__).resolve().parents[1] / "workflows" / "api" / "transfer_step_video.json"
    texts = [node["inputs"].get("text", "") for node in json.loads(path.read_text(encoding="utf-8")).values()]
    assert NEGATIVE_PROMPT in texts and sum(text.endswith(POSITIVE_SUFFIX) for text in texts) == 1


class TestFolder:
    @pytest.fixture(scope="class")
    def folder(self, tmp_path_factory):
        return stepvideo_folder.write_folder(tmp_path_factory.mktemp("models") / "stepvideo-t2v")

    @pytest.fixture
    def copied(self, folder, tmp_path):
        return shutil.copytree(folder, tmp_path / "stepvideo-t2v")

    def test_prompts_get_the_published_suffix_and_the_negative_prompt(self, folder):
        model = load_base_model(folder)
        cond = model.encode_prompts(["a red panda", ""])
        model.positive_suffix = ""
        plain = model.encode_prompts(["a red panda" + POSITIVE_SUFFIX, NEGATIVE_PROMPT])
        assert all(torch.equal(cond[key], plain[key]) for key in cond)
        assert cond["llm_states"].shape == (2, 320, 256) and cond["clip_states"].shape == (2, 77, 64)

    def test_encoded_prompts_are_kept(self, folder, monkeypatch):
        model = load_base_model(folder)
        first = model.encode_prompts(["a red panda"])
        monkeypatch.setattr(model, "_llm_states", None)
        assert torch.equal(model.encode_prompts(["a red panda"])["llm_states"], first["llm_states"])

    def test_a_video_goes_through_the_codec(self, folder):
        model, frames = load_base_model(folder), torch.rand(17, 32, 48, 3)
        latents = model.encode_video(frames)
        assert latents.shape == (1, 4, 3, 2, 3) and model.decode_video(latents).shape == frames.shape

    def test_low_memory_gives_the_same(self, folder):
        models = [load_base_model(folder, low_vram=low) for low in (False, True)]
        noise = small.noise(1, 1, 4, 3, 2, 2)
        outs = [sample(m.denoiser, m.encode_prompts(["a"]), None, noise, steps=2) for m in models]
        assert torch.equal(*outs)
        assert {p.device.type for p in models[1].denoiser.transformer.parameters()} == {"meta"}

    @pytest.mark.parametrize(
        ("lost", "said"),
        [
            ("vae/vae_v2.safetensors", "vae/vae_v2.safetensors missing"),
            ("transformer/diffusion_pytorch_model-00002-of-00002.safetensors", "00002-of-00002.safetensors missing"),
            ("step_llm/step1_chat_tokenizer.model", "step1_chat_tokenizer.model missing"),
            ("hunyuan_clip/clip_text_encoder/pytorch_model.bin", "pytorch_model.bin missing"),
        ],
    )
    def test_what_is_missing_is_named(self, copied, lost, said):
        (copied / lost).unlink()
        with pytest.raises(ValueError, match=said):
            load_base_model(copied)

    @pytest.mark.parametrize("cut", ["step_llm/*.safetensors", "hunyuan_clip/clip_text_encoder/pytorch_model.bin"])
    def test_a_text_encoder_that_was_cut_off_is_refused_before_anything_is_loaded(self, copied, cut):
        path = next(copied.glob(cut))
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(ValueError, match=f"{path.name} is damaged: .*download it again"):
            base_model_spec(copied)

    def test_turbo_is_refused_by_name(self, folder, tmp_path):
        turbo = tmp_path / "stepvideo-t2v-turbo"
        turbo.mkdir()
        (turbo / "model_index.json").write_text(json.dumps({"_class_name": "StepVideoPipeline"}))
        with pytest.raises(ValueError, match="Turbo, which is distilled for a few steps"):
            load_base_model(turbo)

    def test_version_1_of_the_codec_is_refused(self, copied):
        from safetensors.torch import save_file

        save_file({"decoder.conv_in.weight": torch.zeros(1)}, copied / "vae" / "vae_v2.safetensors")
        with pytest.raises(ValueError, match="not version 2"):
            load_base_model(copied)
