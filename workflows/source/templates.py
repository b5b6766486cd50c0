"""Every workflow: the name of its files, and the description that they are built from."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from . import det, fym, large_models, wan22
from .graph import Graph
from .ltx import ltx
from .minimax import h3

# Name for scripts (workflows/api) -> (name in the template browser, description). The browser shows about 25 letters of
# a name, and no order but the alphabet's: a digit sorts, the base comes first.
TEMPLATES: dict[str, tuple[str, Callable[[Graph], None]]] = {
    "transfer_embedded": ("1 Start here - the graph", det.embedded),
    "transfer_ltx_2_3": ("2 LTX-2.3 - your clip, new words", partial(ltx, version="2.3", picture=False)),
    "transfer_ltx_2_5": ("2 LTX-2.5 - your clip, new words", partial(ltx, version="2.5", picture=False)),
    "transfer_wan_2_2": ("2 Wan 2.2 A14B - your clip, new words", partial(wan22.wan22, picture=False)),
    "transfer_minimax_h3": ("2 MiniMax H3 - your clip, new words", partial(h3, picture=False)),
    "transfer_cogvideox_5b": ("2 CogVideoX-5B - your clip, new words", large_models.COGVIDEOX),
    "transfer_hunyuan_video": ("2 HunyuanVideo - your clip, new words", large_models.HUNYUAN),
    "transfer_step_video": ("2 Step-Video - your clip, new words", large_models.STEP_VIDEO),
    "transfer_wan_2_1": ("2 Wan 2.1 (experimental) - your clip, new words", large_models.WAN),
    "picture_ltx_2_3": ("3 Picture, LTX-2.3 - your picture, this motion", partial(ltx, version="2.3", picture=True)),
    "picture_wan_2_2": ("3 Picture, Wan 2.2 - your picture, this motion", partial(wan22.wan22, picture=True)),
    "picture_minimax_h3": ("3 Picture, MiniMax H3 - your picture, this motion", partial(h3, picture=True)),
    "picture_embedded": ("3 Picture, no download - your picture, this motion", det.picture),
    "reuse_adapter": ("4 A kept motion, new words", det.reuse),
    "combine_adapters": ("5 Two motions in one video", det.combine),
    "regions_embedded": ("5 Two motions, two places", det.regions),
    "guide_embedded": ("6 In seconds, nothing trained", det.in_seconds),
    "guide_cogvideox_5b": (
        "6 In seconds, CogVideoX-5B - your clip, new words",
        partial(large_models.in_seconds, base=large_models.COGVIDEOX, note="guide_cogvideox"),
    ),
    "guide_wan_2_2": ("6 In seconds, Wan 2.2 - your clip, new words", wan22.in_seconds),
    "try_first_embedded": ("6 Try first, then learn", det.try_first),
    "compare_drop_fractions": ("7 Fewer blocks, side by side", det.drops),
    "fym_embedded": ("8 As a LoRA, no download", fym.fym_embedded),
    "fym_wan_2_1": ("8 As a LoRA, Wan 2.1", fym.fym_wan),
    "fym_and_det": ("8 As a LoRA, beside DeT", fym.fym_and_det),
    "fym_heads": ("9 Heads of a model, a map", fym.fym_heads),
}
RESULTS = ["Source, without, with", "Your video", "How close is the motion?"]
_CLIP = ("Source video", "file", "Source video")
_CAPTION = ("Caption of the source", "text", "What the source shows")
_EITHER = [
    ("Caption of the source", "caption", "What the source shows"),
    ("Caption of the source", "automatic", "Let the model say what the source shows"),
]
_PICTURE = ("Your picture", "image", "Your picture")
_PROMPT = ("Prompt", "text", "Prompt")
_STRENGTH = ("Put the motion on", "strength", "Strength of the motion")
_SEED = ("Sample with and without", "seed", "Seed")
# Templates that are there as apps, too: name in the browser, the panel's inputs and results.
APPS: dict[str, tuple[str, list[tuple[str, str, str]], list[str]]] = {
    "transfer_embedded": (
        "1 Start here - motion from a clip",
        [("Source clip", "motion", "Motion"), _PROMPT, _STRENGTH, _SEED],
        [RESULTS[0], RESULTS[2]],
    ),
    "transfer_ltx_2_3": ("2 App LTX-2.3 - your clip", [_CLIP, *_EITHER, _PROMPT, _STRENGTH, _SEED], RESULTS),
    "picture_ltx_2_3": (
        "3 App LTX-2.3 - your picture",
        [_CLIP, *_EITHER, _PICTURE, _PROMPT, _STRENGTH, _SEED],
        RESULTS,
    ),
    "picture_wan_2_2": (
        "3 App Wan 2.2 - your picture",
        [_CLIP, _CAPTION, _PICTURE, _PROMPT, _STRENGTH, _SEED],
        RESULTS[:2],
    ),
    "guide_embedded": (
        "6 App In seconds - nothing trained",
        [("Source clip", "motion", "Motion"), _PROMPT, ("Guide by the motion", *_STRENGTH[1:]), _SEED],
        [RESULTS[0], "Motion under guidance"],
    ),
    "try_first_embedded": (
        "6 App Try first - then learn",
        [("Source clip", "motion", "Motion"), _PROMPT, ("Learn it?", "switch", "Learn it"), _SEED],
        RESULTS[::2],
    ),
}
