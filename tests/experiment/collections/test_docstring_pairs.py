"""Docstrings are found in source files without running them, and become a query and a document."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiment.collections.docstring_pairs import Pair, make_pair, normalise
from experiment.collections.docstrings import Docstring, package_root, read_docstrings
from experiment.collections.near_duplicates import NearDuplicates

FILLER = " ".join(f"word{number}" for number in range(30))


def pair(text, path="package.module.function"):
    return make_pair(Docstring(path, text))


def test_a_docstring_of_numpy_style():
    found = pair(
        """function(a, *, kind=None) -> array

        Sort the rows of an :class:`~package.Table` by ``key``.

        Unlike :func:`other.thing`, ``function`` keeps *equal* rows in order [1]_. See the
        `user guide <https://example.org>`_. Call package.function(table) or function() twice.

        .. versionadded:: 1.2
           In another place.

        .. math::

            x = \\frac{a}{b}

        .. note::
            It is not done in place.

        Parameters
        ----------
        a : array_like, shape (n,)
            What is sorted, a multi-functional thing.

        Returns
        -------
        out : ndarray
            Sorted rows.

        See Also
        --------
        argsort : The indices.

        Notes
        -----
        It takes memory::

            x = function(3)
            y = x

        and time.

        >>> function(2)
        array([2])

        Examples
        --------
        No word of this.

        References
        ----------
        .. [1] Somebody, "Something".
        """.replace("\n        ", "\n")
    )
    assert found == Pair(
        "package.module.function",
        "Sort the rows of an package.Table by key.",
        "Unlike other.thing, keeps equal rows in order. See the user guide. Call (table) or twice. "
        "It is not done in place. Parameters: a: array_like, shape (n,) What is sorted, a multi-functional thing. "
        "Returns: out: ndarray Sorted rows. Notes: It takes memory: and time.",
    )


def test_a_docstring_of_google_style():
    found = pair(
        f"""Load [`~package.Dataset`] from one or several files

<Tip>

Do not do {FILLER}.

</Tip>

Args:
    path (`str`, *optional*, defaults to `"x"`): Where **all** files lie.
    kwargs: What `**kwargs` says.

Example::
    no word of this

Returns:
    A [`Dataset`].

```python
no = "word"

of = "this"
```

Last words.
""",
        "package.load",
    )
    assert found is not None
    assert found.query == "Load package.Dataset from one or several files"
    assert found.document == (
        f'Do not do {FILLER}. Args: path (str, optional, defaults to "x"): Where all files lie. '
        "kwargs: What kwargs says. Returns: A Dataset. Last words."
    )


def test_name_and_summary_are_taken_out():
    text = f"Here: a tukey random variable. The density of gamma is gammaln of x.gamma(). {FILLER}"
    found = pair(f"A tukey random variable.\n\n{text}", "scipy.stats.gamma_gen")
    assert found is not None
    assert found.document == f"Here: The density of is gammaln of. {FILLER}"


def test_a_long_first_paragraph_ends_with_its_first_sentence():
    found = pair(f"Solve a system of equations. The {FILLER} end. Then more.")
    assert found is not None
    assert found.query == "Solve a system of equations."
    assert found.document == f"The {FILLER} end. Then more."


@pytest.mark.parametrize(
    "text",
    [
        "",
        "...\n\n" + FILLER,
        "Sort the rows of a table.",
        "Sort the rows of a table.\n\nToo short to be found.",
        "Sort rows.\n\n" + FILLER,
        "x y z w v.\n\n" + FILLER,
        FILLER + " " + FILLER + "\n\n" + FILLER,
        "Sort the %(klass)s by the given key.\n\n" + FILLER,
        "Sort the rows of a table.\n\n%(doc)d " + FILLER,
        "Deprecated: sort the rows of a table.\n\n" + FILLER,
        "Alias for sorting the rows of a table.\n\n" + FILLER,
        "Sort the rows of a table.\n\nExamples\n--------\n" + FILLER,
    ],
)
def test_docstrings_that_give_no_good_pair(text):
    assert pair(text) is None


def test_lines_that_only_a_template_fills_are_left_out():
    found = pair(f"Sort the rows of a table.\n\n%(before_notes)s\n\n{FILLER}\n\n%(example)s\n")
    assert found is not None
    assert found.document == FILLER


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            ["a b c\n", "\n", "---\n", "::\n", "    ", ">>> x\n", ".. x::\n", "```\n", "\ud800", "`", "Args:\n"]
        )
    )
)
def test_any_docstring_is_survived(pieces):
    found = pair("Sort the rows of a table.\n\n" + "".join(pieces) + FILLER)
    assert found is None or found.document.encode()


def test_normalise():
    assert normalise(" Sort  the, `Rows`.\n") == "sort the rows"


SOURCE = '''
"""The module's own is not taken."""
raise RuntimeError("this file is never run")

class Table:
    """Class."""
    def sort(self):
        """Method."""
        def inner():
            """Not taken: nobody can call it."""

if True:
    async def load():
        "In a branch."

def bare(): ...

add_newdoc("package.core", "empty", """
    Added.
    """)
core.add_newdoc("package.core", "array", ("size", "An attribute."))
conv = _add_docstr(package.conv, r"""Conv {template_arg} of {{1}}.""".format(**args))
add_newdoc("package.core", "Union[int]", "No name.")
add_newdoc("package.core", "computed", text)
'''


def test_docstrings_are_read_from_source(tmp_path):
    files = {
        "core.py": SOURCE.encode(),
        "__init__.py": b'def first():\n    """First."""\n',
        "broken.py": b"def (:\n",
        "null.py": b"x = 1\0\n",
        "sub/deep.py": 'def deep():\n    """D\u00e9ep."""\n'.encode(),
        "tests/core.py": b'def tested():\n    """Tested."""\n',
        "test_core.py": b'def tested():\n    """Tested."""\n',
        "text.txt": b"",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    found = list(read_docstrings("package", tmp_path))
    assert found == [
        Docstring("package.first", "First."),
        Docstring("package.core.Table", "Class."),
        Docstring("package.core.Table.sort", "Method."),
        Docstring("package.core.load", "In a branch."),
        Docstring("package.core.empty", "Added."),
        Docstring("package.core.size", "An attribute."),
        Docstring("package.core.conv", "Conv  of {1}."),
        Docstring("package.sub.deep.deep", "D\u00e9ep."),
    ]
    assert [docstring.name for docstring in found[:3]] == ["first", "Table", "sort"]


def test_package_root():
    assert str(package_root("json")) == json.__file__.removesuffix("/__init__.py")
    assert package_root("there_is_no_such_package") is None


def test_near_duplicates():
    words = [f"w{number}" for number in range(200)]
    seen = NearDuplicates()
    assert seen.add(" ".join(words))
    assert not seen.add(" ".join(words))
    assert not seen.add(" ".join(words).upper())
    assert not seen.add(" ".join([*words[:100], "other", *words[100:]]))
    assert seen.add(" ".join(reversed(words)))
    assert seen.add("one two")
    assert not seen.add("one  two")
    assert seen.add("two one")
    assert seen.add("")


@settings(max_examples=50, deadline=None)
@given(share=st.integers(0, 100))
def test_near_duplicates_follow_the_share_of_common_shingles(share):
    """The estimate from 32 values is right where the true resemblance is far from the limit of one half."""
    first = [f"a{number}" for number in range(400)]
    common = 4 * share
    second = first[:common] + [f"b{number}" for number in range(400 - common)]
    shingles = [{tuple(words[i : i + 4]) for i in range(397)} for words in (first, second)]
    resemblance = len(shingles[0] & shingles[1]) / len(shingles[0] | shingles[1])
    seen = NearDuplicates()
    seen.add(" ".join(first))
    kept = seen.add(" ".join(second))
    if resemblance > 0.85:
        assert not kept
    if resemblance < 0.15:
        assert kept
