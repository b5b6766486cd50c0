"""The attention of the embedded DiT."""

from __future__ import annotations

import torch


class MatmulAttention:
    """CogVideoX's joint attention as two plain matrix products. On a CPU, at a few hundred tokens, this is faster than
    torch's fused attention, most of all in bfloat16 and backward; the mathematics is the same."""

    def __call__(
        self, attn, hidden_states, encoder_hidden_states, attention_mask=None, image_rotary_emb=None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if attention_mask is not None or image_rotary_emb is not None:
            raise ValueError("the embedded DiT has neither attention masks nor rotary positions")
        text_length = encoder_hidden_states.shape[1]
        joint = torch.cat([encoder_hidden_states, hidden_states], dim=1)
        query, key, value = (
            projection(joint).unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            for projection in (attn.to_q, attn.to_k, attn.to_v)
        )
        query, key = attn.norm_q(query), attn.norm_k(key)
        weights = ((query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)).softmax(-1)
        joint = attn.to_out[0]((weights @ value).transpose(1, 2).flatten(2))
        return joint[:, text_length:], joint[:, :text_length]
