"""The blocks of the native (ComfyUI) models in small: their module paths and their arithmetic, on ready-made tokens.

Together with the diffusers blocks under the same weights they tell whether key mapping and taps of the two layouts mean
the same. Convention of every model here: `forward(video, text, temb) -> video`, all token sequences (B, N, C).
"""

from __future__ import annotations

from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import nn


def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int) -> torch.Tensor:
    q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def per_head(norm: nn.Module, x: torch.Tensor, heads: int) -> torch.Tensor:
    return norm(x.unflatten(-1, (heads, -1))).flatten(-2)


def block_parts(*names_and_modules: tuple[str, nn.Module]) -> nn.Module:
    """A module tree from dotted names."""
    root = nn.Module()
    for name, module in names_and_modules:
        *path, leaf = name.split(".")
        parent = root
        for part in path:
            if part not in parent._modules:
                parent.add_module(part, nn.Module())
            parent = parent._modules[part]
        parent.add_module(leaf, module)
    return root


class NativeCogVideoX(nn.Module):
    def __init__(self, dim: int, heads: int, blocks: int, time_dim: int, patch_size: int = 2, in_channels: int = 4):
        super().__init__()
        self.heads, self.patch_size, self.patch_size_t, self.in_channels = heads, patch_size, None, in_channels
        self.patch_embed = nn.Module()
        self.blocks = nn.ModuleList(self._block(dim, dim // heads, time_dim) for _ in range(blocks))

    @staticmethod
    def _block(dim: int, head: int, time_dim: int) -> nn.Module:
        linear = [(name, nn.Linear(dim, dim)) for name in ("q", "k", "v", "attn_out")]
        norms = [(f"norm{i}.linear", nn.Linear(time_dim, 6 * dim)) for i in (1, 2)]
        norms += [(f"norm{i}.norm", nn.LayerNorm(dim, eps=1e-5)) for i in (1, 2)]
        norms += [(name, nn.LayerNorm(head, eps=1e-6)) for name in ("norm_q", "norm_k")]
        block = block_parts(*linear, *norms, ("ff_proj", nn.Linear(dim, 4 * dim)), ("ff_out", nn.Linear(4 * dim, dim)))
        block.dim = dim
        return block

    @staticmethod
    def _modulate(norm: nn.Module, video, text, temb):
        shift, scale, gate, t_shift, t_scale, t_gate = norm.linear(F.silu(temb))[:, None].chunk(6, -1)
        joint = torch.cat([norm.norm(text) * (1 + t_scale) + t_shift, norm.norm(video) * (1 + scale) + shift], 1)
        return joint, gate, t_gate

    def forward(self, video, text, temb):
        for block in self.blocks:
            joint, gate, text_gate = self._modulate(block.norm1, video, text, temb)
            q = per_head(block.norm_q, block.q(joint), self.heads)
            k = per_head(block.norm_k, block.k(joint), self.heads)
            out = block.attn_out(attention(q, k, block.v(joint), self.heads))
            video, text = video + gate * out[:, text.shape[1] :], text + text_gate * out[:, : text.shape[1]]
            joint, gate, text_gate = self._modulate(block.norm2, video, text, temb)
            out = block.ff_out(F.gelu(block.ff_proj(joint), approximate="tanh"))
            video, text = video + gate * out[:, text.shape[1] :], text + text_gate * out[:, : text.shape[1]]
        return video


class NativeHunyuanVideo(nn.Module):
    def __init__(self, dim: int, heads: int, doubles: int, singles: int):
        super().__init__()
        self.hidden_size, self.heads, self.patch_size = dim, heads, [1, 2, 2]
        self.txt_in = block_parts(("individual_token_refiner", nn.Module()))
        self.double_blocks = nn.ModuleList(self._double(dim, dim // heads) for _ in range(doubles))
        self.single_blocks = nn.ModuleList(self._single(dim, dim // heads) for _ in range(singles))

    @staticmethod
    def _double(dim: int, head: int) -> nn.Module:
        parts = []
        for stream in ("img", "txt"):
            parts += [(f"{stream}_mod.lin", nn.Linear(dim, 6 * dim)), (f"{stream}_attn.qkv", nn.Linear(dim, 3 * dim))]
            parts += [(f"{stream}_attn.norm.{n}_norm", nn.RMSNorm(head, eps=1e-6)) for n in ("query", "key")]
            parts += [(f"{stream}_attn.proj", nn.Linear(dim, dim))]
            mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(approximate="tanh"), nn.Linear(4 * dim, dim))
            parts += [(f"{stream}_mlp", mlp)]
        return block_parts(*parts)

    @staticmethod
    def _single(dim: int, head: int) -> nn.Module:
        return block_parts(
            ("modulation.lin", nn.Linear(dim, 3 * dim)),
            ("linear1", nn.Linear(dim, 7 * dim)),
            ("linear2", nn.Linear(5 * dim, dim)),
            ("norm.query_norm", nn.RMSNorm(head, eps=1e-6)),
            ("norm.key_norm", nn.RMSNorm(head, eps=1e-6)),
        )

    def _norm(self, x):
        return F.layer_norm(x, (self.hidden_size,), eps=1e-6)

    def forward(self, video, text, temb):
        heads, vec = self.heads, F.silu(temb)[:, None]
        for block in self.double_blocks:
            streams = []
            for x, mod, attn in ((text, block.txt_mod, block.txt_attn), (video, block.img_mod, block.img_attn)):
                shift, scale, *rest = mod.lin(vec).chunk(6, -1)
                q, k, v = attn.qkv(self._norm(x) * (1 + scale) + shift).chunk(3, -1)
                q, k = per_head(attn.norm.query_norm, q, heads), per_head(attn.norm.key_norm, k, heads)
                streams.append((q, k, v, rest))
            out = attention(*(torch.cat([streams[0][i], streams[1][i]], 1) for i in range(3)), heads)
            parts = (
                (text, out[:, : text.shape[1]], block.txt_attn, block.txt_mlp),
                (video, out[:, text.shape[1] :], block.img_attn, block.img_mlp),
            )
            results = []
            for (x, attended, attn, mlp), (*_, (gate, shift, scale, mlp_gate)) in zip(parts, streams, strict=True):
                x = x + attn.proj(attended) * gate
                results.append(x + mlp(self._norm(x) * (1 + scale) + shift) * mlp_gate)
            text, video = results
        x = torch.cat([text, video], 1)
        for block in self.single_blocks:
            shift, scale, gate = block.modulation.lin(vec).chunk(3, -1)
            dim = self.hidden_size
            q, k, v, mlp = block.linear1(self._norm(x) * (1 + scale) + shift).split([dim, dim, dim, 4 * dim], -1)
            q, k = per_head(block.norm.query_norm, q, heads), per_head(block.norm.key_norm, k, heads)
            out = torch.cat([attention(q, k, v, heads), F.gelu(mlp, approximate="tanh")], -1)
            x = x + block.linear2(out) * gate
        return x[:, text.shape[1] :]


class _SelfAttention(nn.Module):
    """Wan's attention module; LTX's has the same arithmetic under other names."""

    def __init__(self, dim: int, heads: int, names: tuple[str, ...], eps: float):
        super().__init__()
        self.heads, self.names = heads, names
        *projections, out, norm_q, norm_k = names
        for name in projections:
            self.add_module(name, nn.Linear(dim, dim))
        self.add_module(out, nn.Sequential(nn.Linear(dim, dim)) if out == "to_out" else nn.Linear(dim, dim))
        self.add_module(norm_q, nn.RMSNorm(dim, eps=eps))
        self.add_module(norm_k, nn.RMSNorm(dim, eps=eps))

    def forward(self, x, context=None):
        q, k, v, out, norm_q, norm_k = (self._modules[name] for name in self.names)
        context = x if context is None else context
        return out(attention(norm_q(q(x)), norm_k(k(context)), v(context), self.heads))


class NativeWan(nn.Module):
    """temb is (B, 6, C) here, as the model's time projection gives it."""

    names = ("q", "k", "v", "o", "norm_q", "norm_k")

    def __init__(self, dim: int, heads: int, blocks: int, ffn: int):
        super().__init__()
        self.dim, self.patch_size, self.out_dim = dim, (1, 2, 2), 4
        self.patch_embedding = nn.Module()
        self.head = nn.Module()
        self.head.modulation = nn.Parameter(torch.zeros(1, 2, dim))
        self.blocks = nn.ModuleList()
        for _ in range(blocks):
            block = block_parts(
                ("self_attn", _SelfAttention(dim, heads, self.names, 1e-6)),
                ("cross_attn", _SelfAttention(dim, heads, self.names, 1e-6)),
                ("norm3", nn.LayerNorm(dim, eps=1e-6)),
                ("ffn", nn.Sequential(nn.Linear(dim, ffn), nn.GELU(approximate="tanh"), nn.Linear(ffn, dim))),
            )
            block.modulation = nn.Parameter(torch.zeros(1, 6, dim))
            self.blocks.append(block)

    def forward(self, video, text, temb):
        def norm(x):
            return F.layer_norm(x, (self.dim,), eps=1e-6)

        for block in self.blocks:
            shift, scale, gate, f_shift, f_scale, f_gate = (block.modulation + temb).chunk(6, 1)
            video = video + block.self_attn(norm(video) * (1 + scale) + shift) * gate
            video = video + block.cross_attn(block.norm3(video), text)
            video = video + block.ffn(norm(video) * (1 + f_scale) + f_shift) * f_gate
        return video


class NativeLTX(nn.Module):
    """temb is (B, 1, 6 C) here, as the model's time embedding gives it."""

    names = ("to_q", "to_k", "to_v", "to_out", "q_norm", "k_norm")

    def __init__(self, dim: int, heads: int, blocks: int):
        super().__init__()
        self.inner_dim = dim
        self.patchify_proj, self.adaln_single = nn.Linear(8, dim), nn.Module()
        self.transformer_blocks = nn.ModuleList()
        for _ in range(blocks):
            feed = nn.Sequential(block_parts(("proj", nn.Linear(dim, 4 * dim))), nn.Identity(), nn.Linear(4 * dim, dim))
            block = block_parts(
                ("attn1", _SelfAttention(dim, heads, self.names, 1e-5)),
                ("attn2", _SelfAttention(dim, heads, self.names, 1e-5)),
                ("ff.net", feed),
            )
            block.scale_shift_table = nn.Parameter(torch.zeros(6, dim))
            self.transformer_blocks.append(block)

    def forward(self, video, text, temb):
        def norm(x):
            return F.rms_norm(x, (self.inner_dim,), eps=1e-6)

        for block in self.transformer_blocks:
            table = block.scale_shift_table + temb.unflatten(-1, (6, -1))
            shift, scale, gate, f_shift, f_scale, f_gate = table.unbind(2)
            video = video + block.attn1(norm(video) * (1 + scale) + shift) * gate
            video = video + block.attn2(video, text)
            net = block.ff.net
            hidden = F.gelu(net[0].proj(norm(video) * (1 + f_scale) + f_shift), approximate="tanh")
            video = video + net[2](hidden) * f_gate
        return video


def native_twin(family: str, model: nn.Module) -> nn.Module:
    """The native blocks with the weights of the diffusers transformer `model`, brought over by `to_native`."""
    from det_core.models.families import to_native

    config = SimpleNamespace(**model.config)
    heads, blocks = config.num_attention_heads, config.num_layers
    dim = heads * config.attention_head_dim
    twins = {
        "cogvideox": lambda: NativeCogVideoX(dim, heads, blocks, config.time_embed_dim),
        "hunyuan_video": lambda: NativeHunyuanVideo(dim, heads, blocks, config.num_single_layers),
        "wan": lambda: NativeWan(dim, heads, blocks, config.ffn_dim),
        "ltx": lambda: NativeLTX(dim, heads, blocks),
    }
    twin = twins[family]()
    native = to_native(family, model.state_dict())
    twin.load_state_dict({name: native[name] for name in twin.state_dict()})
    return twin.eval().requires_grad_(False)


def run_diffusers_blocks(family: str, model: nn.Module, video, text, temb) -> torch.Tensor:
    """The blocks of a diffusers transformer on ready-made tokens, without rotary positions."""
    if family == "wan":
        cosines = torch.ones(1, 1, 1, model.config.attention_head_dim)
        unturned = (cosines, torch.zeros_like(cosines))
        for block in model.blocks:
            video = block(video, text, temb, unturned)
        return video
    for block in model.transformer_blocks:
        if family == "ltx":
            video = block(video, text, temb)
        else:
            video, text = block(video, text, temb)
    if family == "hunyuan_video":
        for block in model.single_transformer_blocks:
            video, text = block(video, text, temb)
    return video
