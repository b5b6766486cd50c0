"""Step-Video's text encoders in ComfyUI: the CLIP, its prompts, and conditioning as a file."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT.parent / "shared" / "data" / "stepvideo"


def comfy(name: str):
    return importlib.import_module(f"det_pack.nodes.{name}")


def prompts(small) -> tuple[list, list]:
    """Conditionings of 5 and 3 tokens of Step-LLM, as the CLIP gives them: cut to their own length."""
    _, _, llm, clip, _ = small.transformer_inputs()
    return [[llm[1:], {"clip_context": clip[1:]}]], [[llm[:1, :3], {"clip_context": clip[:1]}]]


class TestText:
    @pytest.fixture(scope="class")
    def clip(self, folder):
        files = importlib.import_module("det_pack.det_core.models.stepvideo.files")
        return comfy("_comfy.loading.stepvideo_text").load_text_encoders(files.TextFiles.of(folder))

    def test_states_are_those_of_det_core(self, clip, folder):
        import stepvideo_folder
        from sentencepiece import SentencePieceProcessor

        prompt = importlib.import_module("det_pack.det_core.models.stepvideo.prompt")
        text = "a red panda (small) dances"
        (cond, options), *rest = clip.encode_from_tokens_scheduled(clip.tokenize(text))
        assert not rest and options["clip_context"].shape == (1, 77, stepvideo_folder.CLIP_WIDTH)
        tokenizer = SentencePieceProcessor(model_file=str(folder / "step_llm" / "step1_chat_tokenizer.model"))
        ids = torch.tensor([prompt.llm_tokens(text, tokenizer)])
        from det_core.models.stepvideo.step_llm import StepLLM

        module = stepvideo_folder.small.with_weights(StepLLM(**stepvideo_folder.LLM), 7)
        with torch.no_grad():
            assert (cond - module(ids)).abs().max() < 1e-4

    def test_the_hunyuan_clip_equals_transformers(self, clip):
        from stepvideo_folder import _bert_weights
        from transformers import BertConfig, BertModel

        hunyuan = importlib.import_module("det_pack.det_core.models.stepvideo.hunyuan_clip")
        weights = _bert_weights()
        model = BertModel(BertConfig(**hunyuan.sizes(weights), layer_norm_eps=1e-12), add_pooling_layer=False).eval()
        model.load_state_dict(
            {k.removeprefix("bert."): t for k, t in weights.items() if "pooler" not in k}, strict=False
        )
        tokens = clip.tokenize("a red panda")
        ids = [token for token, _ in tokens["hydit_clip"][0]]
        count = ids.index(102) + 1
        with torch.no_grad():
            mask = torch.tensor([[1] * count + [0] * (77 - count)])
            expected = model(torch.tensor([ids]), attention_mask=mask).last_hidden_state
        found = clip.encode_from_tokens_scheduled(tokens)[0][1]["clip_context"]
        assert (found - expected).abs().max() < 1e-4

    @pytest.mark.skipif(not REFERENCE.is_dir(), reason=f"NOT TESTED: no reference tokens at {REFERENCE}")
    def test_ids_of_the_hunyuan_clip_are_the_published_ones(self, clip):
        table = json.loads((REFERENCE / "tokens.json").read_text())
        checked = 0
        for entry in table.values():
            if not isinstance(entry, dict) or "prompt" not in entry:
                continue
            ids = [token for token, _ in clip.tokenize(entry["prompt"])["hydit_clip"][0]]
            wanted = entry["hunyuan_clip"]
            assert ids[: wanted["valid"]] == wanted["input_ids"][: wanted["valid"]]
            assert len(ids) == 77 and set(ids[wanted["valid"] :]) <= {0}
            checked += 1
        assert checked >= 4

    def test_what_is_missing_is_named(self, folder, tmp_path):
        files = importlib.import_module("det_pack.det_core.models.stepvideo.files")
        with pytest.raises(ValueError, match="step1_chat_tokenizer.model, .* missing"):
            files.TextFiles.of(tmp_path)

    def test_a_conditioning_survives_its_file(self, clip, tmp_path):
        room = comfy("_comfy.loading.conditioning_file")
        conditioning = clip.encode_from_tokens_scheduled(clip.tokenize("a red panda"))
        room.save_conditioning(tmp_path / "one.safetensors", conditioning)
        (cond, options), *_ = room.load_conditioning(tmp_path / "one.safetensors")
        assert torch.equal(cond, conditioning[0][0])
        assert torch.equal(options["clip_context"], conditioning[0][1]["clip_context"])
        assert options["pooled_output"] is None

    def test_other_files_are_no_conditioning(self, pack, tmp_path):
        from safetensors.torch import save_file

        save_file({"0.cond": torch.zeros(1)}, tmp_path / "other.safetensors")
        with pytest.raises(ValueError, match="other.safetensors is no saved conditioning"):
            comfy("_comfy.loading.conditioning_file").load_conditioning(tmp_path / "other.safetensors")
        with pytest.raises(ValueError, match="holds control .* save it before"):
            comfy("_comfy.loading.conditioning_file").save_conditioning(
                tmp_path / "x.safetensors", [[torch.zeros(1), {"control": object()}]]
            )
