"""The mkdocs hook that generates pages from the code when the site is built."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from api_page import api_page
from column_table import column_tables
from command_page import command_page
from config_page import config_page
from diagnostic_table import diagnostic_tables
from files_page import files_page
from formulas import render_formulas
from head_pages import head_pages
from notebook_page import notebook_page
from sizes_table import sizes_table
from text import plain_roles

# Files of the repository that are copied into the site unchanged.
_COPIED = {
    "results/calibration.md": "method/calibration.md",
    "results/peers.md": "method/peers.md",
    "results/dispute/leaderboard.md": "method/dispute.md",
    "results/heads.md": "method/every-head.md",
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages to the site."""
    root = Path(config.config_file_path).parent
    pages = {
        **head_pages(),
        "reference/configuration.md": config_page(),
        "reference/files.md": files_page(),
        "reference/commands.md": command_page(),
        "reference/api.md": api_page(),
        "guides/notebook.md": notebook_page(root / "examples" / "model_to_verdict.ipynb"),
        **{target: (root / source).read_text(encoding="utf-8") for source, target in _COPIED.items()},
    }
    study = root / "results" / "study"
    leaderboards = {file.parent.name: f"study/{file.parent.name}.md" for file in sorted(study.glob("*/leaderboard.md"))}
    pages |= _study_pages(study, leaderboards)
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    for figure in sorted(study.glob("figures/*.svg")):
        files.append(File.generated(config, f"study/figures/{figure.name}", abs_src_path=str(figure)))
    written = [page.src_uri for page in files.documentation_pages() if page.src_uri not in pages]
    named = set(_named(config.nav))
    heads = ["heads/index.md", *sorted(path for path in pages if path.startswith("heads/") and "index" not in path)]
    for section in config.nav or []:
        if "Heads" in section:
            section["Heads"] = heads
        if "Study" in section:
            section["Study"] += [{f"Leaderboard: {name}": path} for name, path in leaderboards.items()]
        if "Guides" in section:  # a page missing from the navigation is a guide
            section["Guides"] += [page for page in written if page not in named]
    return files


def _study_pages(study: Path, leaderboards: Mapping[str, str]) -> dict[str, str]:
    """Return the pages of the study, with links to each other."""
    sources = {"study/index.md": "README.md"}
    sources |= {f"study/{name}.md": f"{name}.md" for name in ("findings", "protocol", "tables")}
    sources |= {path: f"{name}/leaderboard.md" for name, path in leaderboards.items()}
    texts = {path: (study / source).read_text(encoding="utf-8") for path, source in sources.items()}
    for path, text in texts.items():
        for source, target in _COPIED.items():
            text = text.replace(f"(../{source.removeprefix('results/')})", f"(../{target})")
        texts[path] = text.replace("/leaderboard.md)", ".md)").replace("(README.md)", "(index.md)")
    return texts


def _named(nav: Any) -> list[str]:
    """List the pages named in a navigation."""
    if isinstance(nav, str):
        return [nav]
    parts = nav.values() if isinstance(nav, dict) else nav or []
    return [page for part in parts for page in _named(part)]


def on_page_markdown(markdown: str, **_: object) -> str:
    """Put the leaderboard's columns, the diagnostics, and the sizes of collections, where a page marks them."""
    marks = {"columns": column_tables, "diagnostics": diagnostic_tables, "sizes": sizes_table}
    for mark, made in ((f"<!-- {name} -->", made) for name, made in marks.items()):
        markdown = markdown.replace(mark, made()) if mark in markdown else markdown
    return markdown


def on_page_content(html: str, **_: object) -> str:
    """Render formulas, and remove the Sphinx roles that mkdocstrings copies from docstrings."""
    return render_formulas(plain_roles(html))
