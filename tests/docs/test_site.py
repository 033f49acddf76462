"""The site: it builds in strict mode, every link works, and no page loads anything from the network."""

import html
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest

from experiment.config import ExperimentConfig
from projheads import head_options, list_heads

pytest.importorskip("mkdocs")
pytest.importorskip("mkdocstrings")

ROOT = Path(__file__).parents[2]


class Page(HTMLParser):
    """The links, the anchors and the files that a page loads."""

    def __init__(self, text):
        super().__init__()
        self.links, self.anchors, self.loaded = [], set(), []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        said = dict(attributes)
        if "id" in said:
            self.anchors.add(said["id"])
        if tag == "a" and said.get("href"):
            self.links.append(said["href"])
        if tag == "link" and said.get("rel") in ("stylesheet", "preload", "preconnect", "icon"):
            self.loaded.append(said["href"])
        self.loaded += [said[name] for name in ("src", "srcset") if said.get(name)]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    run = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site):
    return {file: Page(file.read_text(encoding="utf-8")) for file in site.rglob("*.html") if file.name != "404.html"}


def test_every_link_leads_to_a_page_and_an_anchor(site, pages):
    followed = 0
    for file, page in pages.items():
        for link in page.links:
            target, anchor = urldefrag(link)
            if re.match(r"[a-z]+:", link):
                continue
            found = (file.parent / unquote(target)).resolve() if target else file
            found = found / "index.html" if found.is_dir() else found
            assert found.is_file(), f"{file.relative_to(site)}: {link}"
            if anchor and found.suffix == ".html":
                assert unquote(anchor) in pages[found].anchors, f"{file.relative_to(site)}: {link}"
            followed += 1
    assert followed > 100


def test_nothing_is_asked_of_another_machine(site, pages):
    for file, page in pages.items():
        assert [url for url in page.loaded if re.match(r"(https?:)?//", url)] == [], file
    for file in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//|@import", file.read_text(encoding="utf-8")), file


@pytest.mark.parametrize("page", ["theory", "verdicts"])
def test_formulas_are_rendered_when_the_site_is_built(site, page):
    written = (ROOT / "docs" / "method" / f"{page}.md").read_text(encoding="utf-8")
    shown = (site / "method" / page / "index.html").read_text(encoding="utf-8")
    assert shown.count("<math ") == len(re.findall(r"\$\$.+?\$\$|(?<!\$)\$[^$\s].*?\$", written, re.DOTALL)) > 3
    for text in re.split(r"<math .*?</math>", shown, flags=re.DOTALL):
        assert "arithmatex" not in text
        assert not re.search(r"\\[a-z]+\b|\$\w", re.sub(r"<(script|style).*?</\1>", "", text, flags=re.DOTALL))


def test_every_head_and_every_option_has_its_place(site):
    listed = (site / "heads" / "index.html").read_text(encoding="utf-8")
    for name in list_heads():
        page = (site / "heads" / name / "index.html").read_text(encoding="utf-8")
        assert f'href="{name}/"' in listed
        assert re.search(r">What to expect<.*?<p>[A-Z].{80}", page, re.DOTALL), name
        for option in head_options(name):
            assert re.search(
                rf"<code>{option}</code></td>\s*<td>[^<]+</td>\s*<td><code>.*?</code></td>\s*<td>.{{8}}", page
            )


INCLUDE = re.compile(r'^--8<-- "(.+)"$', re.MULTILINE)


@pytest.mark.parametrize(
    "name", ["hosts/pylate", "hosts/sentence-transformers", "hosts/stanford", "hosts/colpali", "guides/deploy"]
)
def test_a_page_shows_its_programs(site, name):
    included = INCLUDE.findall((ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8"))
    page = (site / name / "index.html").read_text(encoding="utf-8")
    shown = html.unescape(re.sub(r"<[^>]+>", "", page))
    assert included
    for program in included:
        assert (ROOT / program).read_text(encoding="utf-8").strip() in shown, program


def test_the_files_of_a_trial_exist():
    page = (ROOT / "docs" / "one-trial.md").read_text(encoding="utf-8")
    files = re.findall(r"^\| `(.+?)` \|", page, re.MULTILINE)
    assert len(files) > 25
    assert [file for file in files if not (ROOT / file).is_file()] == []


def test_every_key_is_explained(site):
    page = (site / "reference" / "configuration" / "index.html").read_text(encoding="utf-8")
    explained = {
        key for key, said in re.findall(r"<tr>\s*<td><code>(\w+)</code></td>(.*?)</tr>", page, re.DOTALL) if _said(said)
    }

    def keys(section):
        for name, field in section.model_fields.items():
            yield name
            if hasattr(field.annotation, "model_fields"):
                yield from keys(field.annotation)

    assert set(keys(ExperimentConfig)) <= explained


def _said(cells):
    return re.sub(r"<[^>]+>", "", cells.split("</td>")[-2]).strip()
