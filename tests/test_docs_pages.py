"""The documentation as a whole: links lead somewhere, commands are commands, quoted messages are in the code."""

import ast
import re
import shlex
from pathlib import Path

import pytest

from det_core.cli.main import build_parser

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_index_names_every_page():
    index = (ROOT / "docs/README.md").read_text(encoding="utf-8")
    for page in (ROOT / "docs").glob("*/*.md"):
        assert f"({page.relative_to(ROOT / 'docs').as_posix()})" in index


def commands() -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        for line in re.findall(r"^ *(?:python -m det_core|det-motion) (.+)$", text, re.MULTILINE):
            found.append((page.name, line.split("  #")[0]))
    return found


@pytest.mark.parametrize(("page", "command"), commands())
def test_every_command_of_the_documentation_is_one(page, command, monkeypatch):
    monkeypatch.setattr("det_core.cli.arguments.torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("det_core.cli.arguments.torch.cuda.device_count", lambda: 1)
    monkeypatch.setattr("det_core.metrics.features._Extractor.check", lambda _folder: None)  # folders of yours
    build_parser().parse_args(shlex.split(command))


def test_there_are_commands_to_check():
    assert len(commands()) >= 10


def texts_of_the_code() -> str:
    """All string constants of the package, those of one call joined; what an f-string fills in is left out."""
    found = []
    for path in [*(ROOT / "det_core").rglob("*.py"), *(ROOT / "nodes").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
            elif isinstance(node, ast.JoinedStr):
                found.append("".join(v.value if isinstance(v, ast.Constant) else "…" for v in node.values))
    return "\n".join(found)


def test_the_messages_that_are_explained_are_those_of_the_code():
    page = (ROOT / "docs/use/when-it-is-refused.md").read_text(encoding="utf-8")
    cells = [line.split("|")[1] for line in page.splitlines() if line.startswith("| *")]
    quoted = {message for cell in cells for message in re.findall(r"\*([^*]+)\*", cell)} - {"value_not_in_list"}
    assert len(quoted) >= 15
    code = texts_of_the_code()
    for part in (part.strip() for message in quoted for part in message.split("…")):
        assert part in code, f"no message says {part!r}"
