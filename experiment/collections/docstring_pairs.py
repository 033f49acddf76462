"""From a docstring to a query, its summary, and a document, the rest without name and summary."""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from experiment.collections.docstrings import Docstring

__all__ = ["Pair", "make_pair", "normalise"]

QUERY_WORDS = range(4, 33)
"""A summary has at least four words, enough to be specific, and fits a query."""
FEWEST_DOCUMENT_WORDS = 25

DROPPED_SECTIONS = frozenset(("examples", "example", "see also", "references", "reference", "citation"))
"""Code and names of other things: few words, or the names of neighbours of what is described."""
DROPPED_DIRECTIVES: frozenset[str | None] = frozenset(
    (
        None,  # a target or a citation
        "code",
        "code-block",
        "currentmodule",
        "deprecated",
        "doctest",
        "figure",
        "image",
        "index",
        "legacy",
        "math",
        "plot",
        "rubric",
        "seealso",
        "sourcecode",
        "testcode",
        "testoutput",
        "testsetup",
        "versionadded",
        "versionchanged",
    )
)

RULE = re.compile(r"\s*[-=~^*+|][-=~^*+|\s]{2,}")
"""A line under a title or in a table."""
GOOGLE_SECTION = re.compile(r"\**([A-Z][\w ]{2,20})\**::?")
DIRECTIVE = re.compile(r"\.\. (?:(?P<name>[\w:-]+)::|\[|_)")
SIGNATURE = re.compile(r"[\w.]+ ?\(.*\)(\s*(->|→).*)?", re.DOTALL)
LEFT_BY_TEMPLATES = re.compile(r"%\(\w+\)[sd]")
SENTENCE_END = re.compile(r"(?<=[a-z0-9)][.!?])\s+(?=[A-Z])")
GENERIC = re.compile(
    r"(alias|deprecated|dummy|equivalent to|helper|internal|mixin|not implemented|overridden|override|private|refer"
    r"|return self|same as|see|this (class|function|is|method)|todo|wrapper)\b",
    re.IGNORECASE,
)
"""Beginnings of summaries that do not say what something does."""
MARKUP = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r":[\w:+-]+:`[~!]?([^`<\n]+?)(?:\s*<[^`>\n]*>)?`", r"\1"),  # :func:`~package.name`, :ref:`text <label>`
        (r"\[`~?([^`\n]+)`\](?:\([^)\n]*\))?", r"\1"),  # [`~package.name`](link)
        (r"`([^`<\n]+?)\s*<[^`>\n]*>`_*", r"\1"),  # `text <link>`_
        (r"`+_*", ""),
        (r"\[[\w#*-]+\]_", ""),  # [1]_
        (r"\*\*?(?=\w)|(?<=\w)\*\*?(?=[\s,.:;)])", ""),  # *emphasis*, **kwargs
        (r"</?[A-Z]\w*[^<>\n]*>", ""),  # <Tip>
        (r"https?://\S+", ""),
        (r"::(?=\s|$)", ":"),
        (r"Read more in the User Guide\.", ""),
    )
)


@dataclass(frozen=True)
class Pair:
    """A summary and the rest of the docstring of ``path``."""

    path: str
    query: str
    document: str


def make_pair(docstring: Docstring) -> Pair | None:
    """Make a pair of a docstring, or None if it gives no good one."""
    # A docstring may contain lone surrogates, which UTF-8 cannot encode.
    paragraphs = _paragraphs(docstring.text.encode("utf-8", "replace").decode("utf-8"))
    while paragraphs and SIGNATURE.fullmatch(paragraphs[0]):
        del paragraphs[0]
    if not paragraphs:
        return None
    query, rest = paragraphs[0], paragraphs[1:]
    if len(query.split()) >= QUERY_WORDS.stop:
        sentences = SENTENCE_END.split(query, maxsplit=1)
        query, rest = sentences[0], [*sentences[1:], *rest]
    if not _is_good_query(query):
        return None
    document = _without(" ".join(rest), docstring.name, query)
    if len(document.split()) < FEWEST_DOCUMENT_WORDS or "%(" in document:
        return None
    return Pair(docstring.path, query.rstrip(":"), document)


def normalise(text: str) -> str:
    """Return the words of a text in lower case, with single spaces between them."""
    return " ".join(re.findall(r"\w+", text.lower()))


def _is_good_query(query: str) -> bool:
    words = query.split()
    plain = sum(bool(re.fullmatch(r"[A-Za-z][a-z-]{2,}[.,:;]?", word)) for word in words)
    return len(words) in QUERY_WORDS and plain >= 3 and "%(" not in query and not GENERIC.match(query)


def _without(document: str, name: str, query: str) -> str:
    """Remove name and summary, so that the document must be found by its content."""
    said = query.rstrip(".:")
    if said.lower() in document.lower():
        document = re.sub(re.escape(said) + r"\.?", "", document, flags=re.IGNORECASE)
    # scipy's class gamma_gen describes the distribution gamma.
    for word in (name, name.strip("_").removesuffix("_gen")):
        if word in document:
            document = re.sub(rf"(?<!\w)(?:\w+\.)*{re.escape(word)}(?!\w)(?:\(\))?", "", document)
    return re.sub(r"\s+([,.;:)])(?=\s|$)", r"\1", " ".join(document.split()))


def _paragraphs(text: str) -> list[str]:
    """Return the paragraphs of prose, one line each, without markup."""
    paragraphs: list[list[str]] = [[]]
    for line in _lines_of_words(text.expandtabs().split("\n")):
        if line:
            paragraphs[-1].append(line)
        else:
            paragraphs.append([])
    plain = "\n".join(" ".join(lines) for lines in paragraphs if lines)
    for pattern, replacement in MARKUP:
        plain = pattern.sub(replacement, plain)
    return [" ".join(paragraph.split()) for paragraph in plain.split("\n") if paragraph.strip()]


def _lines_of_words(lines: list[str]) -> Iterator[str]:
    """Yield the lines, stripped; an empty one instead of what is not prose (examples, references, directives)."""
    is_rule = [bool(RULE.fullmatch(line)) for line in lines]
    section_dropped = session = fence = False
    # Lines indented deeper than this belong to a dropped block.
    block_indent = sys.maxsize
    for number, line in enumerate(lines):
        words = line.strip()
        indent = len(line) - len(line.lstrip())
        if not words or is_rule[number] or LEFT_BY_TEMPLATES.fullmatch(words):
            session = False
            yield ""
            continue
        if number + 1 < len(lines) and is_rule[number + 1]:
            section_dropped = words.lower().rstrip(":") in DROPPED_SECTIONS
            words = f"{words.rstrip(':')}:"
        elif indent == 0 and (section := GOOGLE_SECTION.fullmatch(words)):
            section_dropped = section[1].lower() in DROPPED_SECTIONS
        if indent <= block_indent:
            block_indent = sys.maxsize
        dropped = section_dropped or indent > block_indent
        if directive := DIRECTIVE.match(words):
            words = words[directive.end() :].strip()
            dropped |= directive["name"] in DROPPED_DIRECTIVES
            block_indent = min(block_indent, indent) if dropped else block_indent
        elif words.endswith("::"):
            block_indent = min(block_indent, indent)
        is_fence = words.startswith("```")
        fence ^= is_fence
        session |= words.startswith(">>>")
        yield "" if dropped or session or fence or is_fence else words
