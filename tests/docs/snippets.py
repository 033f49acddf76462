"""The code in the documents that a comment marks: run, dry-run, part (of a configuration), or file: NAME."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_MARKED = re.compile(r"<!-- (run|dry-run|file|part)(?:: (\S+))? -->\n```(\w+)\n(.*?)```", re.DOTALL)


@dataclass(frozen=True)
class Snippet:
    """A block: where it is, how it is marked, the word after the mark, its language and its text."""

    page: str
    mark: str
    argument: str
    language: str
    text: str

    def __str__(self):
        return f"{self.page}: {self.text.splitlines()[0]}"


def find_snippets():
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [
        Snippet(page.relative_to(ROOT).as_posix(), mark, argument, language, text)
        for page in pages
        for mark, argument, language, text in _MARKED.findall(page.read_text(encoding="utf-8"))
    ]


def marks_in(text):
    """Count the marks, so that none is missed for its form."""
    return len(re.findall(r"<!-- (?:run|dry-run|file|part)\b", text))
