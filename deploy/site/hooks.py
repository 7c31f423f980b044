"""Pages of the site that are made: the start from README.md, the API reference from the package, llms.txt.

Links that leave docs/ point to the repository's files, which the site does not have.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
REPOSITORY = "https://github.com/se-server/se-server/blob/main"
PICTURES = (".png", ".svg")
sys.path.insert(0, str(ROOT / "src"))


def _names(module: str) -> list[str]:
    import importlib

    names: list[str] = importlib.import_module(module).__all__
    return [name for name in names if name != "__version__"]


def _reference(title: str, about: str, places: list[str]) -> str:
    return "\n\n".join([f"# {title}", about, *(f"::: {place}" for place in places)])


def _pages() -> dict[str, str]:
    from se_server import _HOMES, errors
    from se_server.testing import _HOMES as OF_TESTING

    exceptions = [
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, Exception) and not name.startswith("_")
    ]
    # Classes first, then functions and constants.
    ordered = sorted(_names("se_server"), key=lambda name: (name.isupper(), name[0].islower(), name))
    public = [f"{_HOMES[name]}.{name}" for name in ordered if name not in exceptions]
    testing = [f"{OF_TESTING[name]}.{name}" for name in _names("se_server.testing") if name not in exceptions]
    return {
        "index.md": (ROOT / "README.md").read_text(encoding="utf-8"),
        "api/se_server.md": _reference("se_server", "The names that `from se_server import ...` finds.", public),
        "api/testing.md": _reference("se_server.testing", "Test agents in process, in virtual time.", testing),
        "api/errors.md": _reference(
            "Exceptions",
            "One tree: `except SpeechEngineError` catches all of it. Each text names the input and the way out.",
            [f"se_server.errors.{name}" for name in exceptions],
        ),
    }


def on_config(config: Any) -> Any:
    """Put pages that the navigation does not name at its end, so that every page can be reached."""
    named = set(re.findall(r"[\w/.-]+\.md", str(config.nav)))
    pages = sorted(page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md"))
    config.nav += [page for page in pages if page not in named]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the made pages, and the script that lets pages from the disk search."""
    for path, text in _pages().items():
        files.append(File.generated(config, path, content=text))
    script = Path(__file__).with_name("iframe-worker.js").read_text(encoding="utf-8")
    files.append(File.generated(config, "assets/iframe-worker.js", content=script))
    for path in sorted((ROOT / "bench" / "results" / "latest").iterdir()):
        if path.suffix in PICTURES:
            name = f"assets/{path.relative_to(ROOT).as_posix()}"
            files.append(File.generated(config, name, content=path.read_bytes()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Point links that leave docs/ to the repository."""
    folder = (ROOT if page.file.src_uri == "index.md" else (ROOT / "docs" / page.file.src_uri).parent).resolve()
    fragments = re.split(r"(^```.*?^```$)", markdown, flags=re.MULTILINE | re.DOTALL)
    return "".join(text if text.startswith("```") else _relinked(text, folder, page.file.src_uri) for text in fragments)


def _relinked(text: str, folder: Path, page: str) -> str:
    def target(found: re.Match[str]) -> str:
        name, anchor = found[1], found[2] or ""
        place = (folder / name).resolve()
        inside = place.is_relative_to(ROOT / "docs") and place.is_file()
        if inside:
            up = "../" * page.count("/")
            return f"]({up}{place.relative_to(ROOT / 'docs').as_posix()}{anchor})"
        if not place.is_relative_to(ROOT) or not place.exists():
            return found[0]
        if place.suffix in PICTURES:
            return f"]({'../' * page.count('/')}assets/{place.relative_to(ROOT).as_posix()})"
        return f"]({REPOSITORY}/{place.relative_to(ROOT).as_posix()}{anchor})"

    return re.sub(r"\]\((?!https?:|#|mailto:)([^)#\s]*)(#[^)\s]*)?\)", target, text)


def _check_reference(site: Path, module: str) -> None:
    """Every public name has its place in the reference, and a description."""
    pages = [(site / "api" / f"{page}.html").read_text(encoding="utf-8") for page in (module, "errors")]
    for name in _names("se_server" if module == "se_server" else "se_server.testing"):
        if not any(re.search(rf'id="se_server\.[\w.]*\b{name}"', page) for page in pages):
            raise PluginError(f"the API reference lacks {module}.{name}")


def _check_nothing_is_fetched(site: Path) -> None:
    """A browser loads no script, style or picture of another host."""
    loaded = re.compile(r"""<(?:script|img|iframe|link\b[^>]*rel="?(?:stylesheet|preconnect))\b[^>]*https?://[^>]*>""")
    for page in site.rglob("*.html"):
        if found := loaded.search(page.read_text(encoding="utf-8")):
            raise PluginError(f"{page.relative_to(site)} loads {found[0]}")


def on_post_build(config: Any) -> None:
    """Write llms.txt, the list of the pages for language models, and the pages as Markdown beside the HTML."""
    lines = ["# se-server", "", "> The server for ElevenLabs Speech Engine, in Python.", ""]
    for page in sorted((ROOT / "docs").rglob("*.md")):
        text = page.read_text(encoding="utf-8")
        place = page.relative_to(ROOT / "docs")
        found = re.search(r"^# (.*)\n\n((?:.+\n)+)", text, re.MULTILINE)
        if found is None:
            raise PluginError(f"{place} has no title")
        words = " ".join(re.sub(r"\[(.*?)\]\([^)]*\)", r"\1", found[2], flags=re.DOTALL).split())
        about = "" if words[0] in "#|<-!" or words.startswith("```") else re.split(r"(?<=[.?])\s", words)[0]
        lines.append(f"- [{found[1]}]({place.as_posix()}){': ' if about else ''}{about}")
        (Path(config.site_dir) / place).write_text(text, encoding="utf-8")
    _check_nothing_is_fetched(Path(config.site_dir))
    for module in ("se_server", "testing"):
        _check_reference(Path(config.site_dir), module)
    (Path(config.site_dir) / "llms.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
