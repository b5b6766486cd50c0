"""What the node classes say of themselves, written where others need it: one edit of a schema is one edit.

`record()` imports the classes, so it needs ComfyUI (COMFYUI_PATH) and its environment. From them it writes

- tests/surface.json: ids, inputs in order, outputs, which users' saved graphs rely on;
- workflows/source/stock.json: the same of ComfyUI's own nodes that the workflows use;
- locales/en/nodeDefs.json: names, descriptions and tooltips; locales/zh/nodeDefs.json: the same in Chinese, where
  chinese.json has a translation of the English text as it stands, and in English elsewhere;
- the lists of inputs and outputs in the help pages nodes/web/docs/*.md.

The pages in Chinese, nodes/web/docs/*/zh.md, follow from these and the same translations, without ComfyUI.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SURFACE = ROOT / "tests" / "surface.json"
STOCK = Path(__file__).with_name("stock.json")
LOCALE = ROOT / "locales" / "en" / "nodeDefs.json"
CHINESE = ROOT / "locales" / "zh" / "nodeDefs.json"
TRANSLATIONS = Path(__file__).with_name("chinese.json")
PAGES = ROOT / "nodes" / "web" / "docs"
FILES = ("model_name", "name", "folder", "vae_name")  # choices that list the user's files
USED = (
    "BasicGuider BasicScheduler CFGGuider CheckpointLoaderSimple CLIPLoader CLIPTextEncode ComfySwitchNode "
    "CreateVideo DualCLIPLoader EmptyHunyuanLatentVideo FluxGuidance GetImageSize GetVideoComponents "
    "ImageFromBatch ImageStitch InstructPixToPixConditioning InvertMask KSampler KSamplerAdvanced KSamplerSelect "
    "LoadImage LoadVideo "
    "LoraLoaderModelOnly LoraModelLoader LossGraphNode LTXAVTextEncoderLoader LTXVAudioVAEDecode "
    "LTXVAudioVAELoader LTXVConcatAVLatent LTXVConditioning LTXVDualCFGGuider LTXVEmptyLatentAudio "
    "LTXVImgToVideoInplace LTXVPreprocess LTXVSeparateAVLatent ManualSigmas MaskComposite MiniMaxH3ImageToVideo "
    "ModelSamplingSD3 PrimitiveStringMultiline RandomNoise SamplerCustomAdvanced SaveImage SaveVideo SolidMask "
    "TextGenerate UNETLoader VAEDecode VAEDecodeAudio VAEDecodeTiled VAEEncode VAEEncodeTiled VAELoader "
    "WanImageToVideo"
).split()


def record() -> dict[Path, str]:
    """The text of every file that is made from the node classes."""
    comfyui()
    own = {name: info for name, info in sorted(own_nodes().items())}
    translations = json.loads(TRANSLATIONS.read_text(encoding="utf-8"))
    files = {
        SURFACE: _json({name: surface(info) for name, info in own.items()}),
        STOCK: _json({name: _brief(info) for name, info in stock_nodes().items()}),
        LOCALE: _json(english := {name: names(info) for name, info in own.items()}),
        CHINESE: _json(translated(english, translations)),
    }
    for name, info in own.items():
        page = PAGES / f"{name}.md"
        text = (
            page.read_text(encoding="utf-8")
            if page.exists()
            else f"# {info['display_name']}\n\n{info['description']}\n"
        )
        files[page] = with_lists(text, info)
    return files


def comfyui() -> None:
    """Make ComfyUI's modules importable, for the CPU. Its folder must come first: this one has a `nodes`, too."""
    folder = Path(os.environ.get("COMFYUI_PATH", "~/comfy/ComfyUI")).expanduser()
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
        from comfy.cli_args import args

        args.cpu = True


def own_nodes() -> dict[str, dict]:
    """This pack's nodes as /object_info describes them, by id."""
    if (pack := sys.modules.get("det_pack")) is None:
        found = importlib.util.spec_from_file_location(
            "det_pack", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
        )
        pack = sys.modules["det_pack"] = importlib.util.module_from_spec(found)
        found.loader.exec_module(pack)
    return asyncio.run(_own_nodes(pack))


async def _own_nodes(pack) -> dict[str, dict]:
    extension = await pack.comfy_entrypoint()
    await extension.on_load()
    return {node.define_schema().node_id: node.GET_NODE_INFO_V1() for node in await extension.get_node_list()}


def stock_nodes() -> dict[str, dict]:
    """ComfyUI's own nodes that the workflows use."""
    import nodes

    asyncio.run(nodes.init_builtin_extra_nodes())
    found = {}
    for name in USED:
        node = nodes.NODE_CLASS_MAPPINGS[name]
        if hasattr(node, "GET_NODE_INFO_V1"):
            found[name] = node.GET_NODE_INFO_V1()
        else:
            found[name] = {"input": node.INPUT_TYPES(), "output": list(node.RETURN_TYPES)}
    return found


def _inputs(info: dict):
    """(name, section, type, options) of each input, in order; the inputs of a choice's first option follow it."""
    for section in ("required", "optional"):
        for name, value in info["input"].get(section, {}).items():
            kind, options = value[0], value[1] if len(value) > 1 else {}
            yield name, section, "COMBO" if isinstance(kind, list) else kind, options
            if kind == "COMFY_DYNAMICCOMBO_V3":
                first = options["options"][0]["inputs"]
                for inner in (*first.get("required", {}), *first.get("optional", {})):
                    yield f"{name}.{inner}", section, "COMBO", {}


def surface(info: dict) -> dict:
    """One node without its texts and the lists of files."""
    inputs = []
    for name, section, kind, options in _inputs(info):
        entry = {"name": name, "type": kind, "required": section == "required"}
        if "default" in options:
            entry["default"] = options["default"]
        if options.get("forceInput"):
            entry["socket"] = True
        if kind == "COMBO" and name not in FILES:
            entry["options"] = options["options"]
        inputs.append(entry)
    outputs = [{"name": name, "type": kind} for name, kind in zip(info["output_name"], info["output"], strict=True)]
    return {"inputs": inputs, "outputs": outputs, "output_node": info["output_node"]}


def _brief(info: dict) -> dict:
    """Names, types and defaults of a stock node's inputs, types of its outputs; which one the editor gives a seed's
    control."""
    inputs: list[dict[str, Any]] = []
    for name, _, kind, options in _inputs(info):
        entry = {"name": name, "type": "COMBO" if kind == "COMFY_DYNAMICCOMBO_V3" else kind}
        if options.get("control_after_generate"):
            entry["seed"] = True
        if "default" in options:
            entry["default"] = options["default"]
        inputs.append(entry)
    return {"inputs": inputs, "outputs": [{"type": kind} for kind in info["output"]]}


def names(info: dict) -> dict:
    """One node's texts as ComfyUI's translations have them."""
    inputs = {
        name: {"name": name.replace("_", " "), "tooltip": options["tooltip"]} for name, _, _, options in _inputs(info)
    }
    outputs = {
        str(slot): {"name": name.replace("_", " "), "tooltip": tip}
        for slot, (name, tip) in enumerate(zip(info["output_name"], info["output_tooltips"], strict=True))
    }
    texts = {"display_name": info["display_name"], "description": info["description"], "inputs": inputs}
    return {**texts, "outputs": outputs}


def translated(texts: dict, translations: dict[str, str]) -> dict:
    """The same with every text translated that has a translation."""
    return {
        key: translated(value, translations) if isinstance(value, dict) else translations.get(value, value)
        for key, value in texts.items()
    }


def with_lists(page: str, info: dict) -> str:
    """A help page with its sections "Inputs" and "Outputs" made anew; the rest is written by hand."""
    inputs = [
        f"- `{name}`{' (optional)' if section == 'optional' else ''}: {options['tooltip']}"
        for name, section, _, options in _inputs(info)
    ]
    outputs = [f"- `{name}`: {tip}" for name, tip in zip(info["output_name"], info["output_tooltips"], strict=True)]
    title, *sections = re.split(r"^(?=## )", page, flags=re.MULTILINE)
    by_hand = [section.strip() for section in sections if not section.startswith(("## Inputs\n", "## Outputs\n"))]
    made = [title.strip()]
    made += [f"## Inputs\n\n{chr(10).join(inputs)}"] if inputs else []
    made += [f"## Outputs\n\n{chr(10).join(outputs)}"] if outputs else []
    return "\n\n".join([*made, *by_hand]) + "\n"


def blocks(page: str) -> list[str]:
    """Headings, paragraphs, and points of lists, a line each; "" between what an empty line parts."""
    found: list[str] = []
    for line in page.rstrip().splitlines():
        starts = not line or line.startswith(("#", "- ", "![")) or re.match(r"\d+\. ", line)
        if starts or not found or not found[-1]:
            found.append(line.strip())
        else:
            found[-1] += f" {line.strip()}"
    return found


def chinese_pages() -> dict[Path, str]:
    """The help pages in Chinese, from the English ones as they stand."""
    translations = json.loads(TRANSLATIONS.read_text(encoding="utf-8"))
    pages = {page.stem: page.read_text(encoding="utf-8") for page in PAGES.glob("*.md")}
    return {PAGES / name / "zh.md": in_chinese(text, translations) for name, text in pages.items()}


def in_chinese(page: str, translations: dict[str, str]) -> str:
    """A help page with every block translated that has a translation."""
    made = []
    for block in blocks(page):
        before, text = re.fullmatch(r"(#+ |\d+\. |- (?:`\w+`(?: \(optional\))?: )?|)(.*)", block).groups()
        made.append(before.replace(" (optional)", "（可选）") + translations.get(text, text))
    return "\n".join(made) + "\n"


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def write(files: dict[Path, str]) -> None:
    for path, text in files.items():
        path.write_text(text, encoding="utf-8")
