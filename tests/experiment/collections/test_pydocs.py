"""``pydocs``, made of the packages that are installed here, and of small ones made for a test."""

import re
import sys
from collections import Counter, defaultdict
from importlib.metadata import version

import pytest
from beir.datasets.data_loader import GenericDataLoader

from experiment.collections import check_source, open_collection, pydocs, training_pairs
from projheads.errors import ProjheadsError


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def train(cache):
    return open_collection("pydocs", split="train", cache=cache)


@pytest.fixture(scope="module")
def test(train, cache):
    return open_collection("pydocs", split="test", cache=cache)


def test_there_is_enough(train, test):
    assert len(training_pairs(train)) >= 4000
    assert len(test.corpus) >= 1000
    assert len(test.queries) >= 300
    assert train.notes == test.notes == {}


def test_packages_are_not_shared(train, test):
    packages = [{document.split(".")[0] for document in collection.corpus} for collection in (train, test)]
    assert packages[0] == {"networkx", "pandas", "sklearn", "torch", "transformers"}
    assert packages[1] == {"numpy", "scipy"}


def test_name_and_summary_are_not_in_the_document(train, test):
    for collection in (train, test):
        for query, document in training_pairs(collection):
            name = re.escape(document.rpartition(".")[2])
            text = collection.corpus[document].passage
            assert not re.search(rf"(?<!\w){name}(?!\w)", text), document
            assert collection.queries[query].rstrip(".").lower() not in text.lower(), document


def test_a_query_means_one_document(train, test):
    queries = Counter(text.lower() for collection in (train, test) for text in collection.queries.values())
    assert queries.most_common(1)[0][1] == 1
    for collection in (train, test):
        assert all(len(grades) == 1 for grades in collection.qrels.values())
        assert not collection.queries.keys() & collection.corpus.keys()


def test_no_document_is_nearly_another(train, test):
    """The sketches are checked with all shingles of three words."""
    texts = [document.text.lower().split() for corpus in (test.corpus, train.corpus) for document in corpus.values()]
    shingles = [{tuple(words[start : start + 3]) for start in range(len(words) - 2)} for words in texts]
    having = defaultdict(list)
    for number, own in enumerate(shingles):
        for shingle in own:
            having[shingle].append(number)
    # What 30 texts share is a turn of phrase and costs much to count.
    common = Counter(
        (first, second)
        for numbers in having.values()
        if len(numbers) < 30
        for position, first in enumerate(numbers)
        for second in numbers[position + 1 :]
    )
    alike = [count / len(shingles[first] | shingles[second]) for (first, second), count in common.items() if count > 15]
    assert max(alike) < 0.85


def test_markup_is_gone(train, test):
    for collection in (train, test):
        text = " ".join(document.text for document in collection.corpus.values())
        assert re.findall(r">>>|``|:func:|:class:`|\.\. (?:note|math|versionadded|code-block)::|%\(\w+\)s", text) == []


def test_source_states_packages_and_counts(train, test, cache):
    source = (pydocs.pydocs_folder(cache) / "SOURCE.txt").read_text()
    assert f"test: numpy {version('numpy')} (BSD" in source
    assert f"train: scikit-learn {version('scikit-learn')} (BSD" in source
    assert f"train: documents={len(train.corpus)} queries={len(train.queries)}\n" in source
    assert f"test: documents={len(test.corpus)} queries={len(test.queries)}\n" in source


def test_beir_reads_it(test, cache):
    corpus, queries, qrels = GenericDataLoader(str(pydocs.pydocs_folder(cache) / "test")).load(split="test")
    assert corpus == {key: {"title": "", "text": document.text} for key, document in test.corpus.items()}
    assert (queries, qrels) == (test.queries, test.qrels)


def test_it_is_made_once(train, cache, monkeypatch):
    monkeypatch.setattr(pydocs, "_make", lambda folder: pytest.fail("made again"))
    assert check_source("pydocs", cache=cache) is None
    assert open_collection("pydocs", split="train", cache=cache) == train


def test_another_split(cache):
    with pytest.raises(ProjheadsError, match='unknown split of pydocs "tset"; known: test, train; did you mean "test"'):
        open_collection("pydocs", split="tset", cache=cache)


SUMMARIES = ["Sort the rows of a table.", "Join two tables by a key.", "Count the words of a text."]


def body(start, words=40):
    return " ".join(f"w{number}" for number in range(start, start + words))


def package(root, name, functions):
    text = "".join(
        f'def {key}():\n    """{summary}\n\n    {rest}\n    """\n' for key, (summary, rest) in functions.items()
    )
    (root / name).mkdir()
    (root / name / "__init__.py").write_text('raise RuntimeError("imported")\n' + text)


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Two small packages in place of the real ones."""
    monkeypatch.setattr(
        pydocs, "PACKAGES", {"test": {"smalltest": "small-test"}, "train": {"smalltrain": "small-train"}}
    )
    monkeypatch.setattr(pydocs, "MOST_DOCUMENTS", {"test": 3, "train": 3})
    monkeypatch.setattr(pydocs, "FEWEST_DOCUMENTS", {"test": 2, "train": 2})
    monkeypatch.setattr(pydocs, "TEST_QUERIES", 2)
    monkeypatch.setattr(pydocs, "_versions", lambda: {})
    packages = tmp_path / "packages"
    packages.mkdir()
    monkeypatch.syspath_prepend(str(packages))
    return packages


def test_small_packages(small, tmp_path):
    alike = body(0)
    package(
        small,
        "smalltest",
        {
            "sort": (SUMMARIES[0], alike),
            "copy": ("Copy the rows of a table.", alike + " end"),
            "mean": ("Compute it along an axis.", body(100)),
            "median": ("Compute it along an axis.", body(200)),
            "join": (SUMMARIES[1], body(300)),
            "split": ("Split the rows of a table.", body(400)),
        },
    )
    package(
        small,
        "smalltrain",
        {
            "sort": ("Order the rows of a table.", alike),
            "join": (SUMMARIES[1].upper(), body(500)),
            "count": (SUMMARIES[2], body(600)),
            "draw": ("Draw the rows of a table.", body(700)),
        },
    )
    test = open_collection("pydocs", split="test", cache=tmp_path / "a")
    train = open_collection("pydocs", split="train", cache=tmp_path / "a")
    # copy says what sort says, mean and median mean two documents; sort and join repeat the test package.
    assert list(test.corpus) == ["smalltest.sort", "smalltest.join", "smalltest.split"]
    assert len(test.queries) == 2
    assert train.queries == {"q:smalltrain.count": SUMMARIES[2], "q:smalltrain.draw": "Draw the rows of a table."}
    assert train.corpus["smalltrain.count"].passage == body(600)
    assert not {"smalltest", "smalltrain"} & sys.modules.keys()

    open_collection("pydocs", split="test", cache=tmp_path / "b")
    first, second = (
        {file.relative_to(cache): file.read_bytes() for file in cache.rglob("*.*") if file.suffix != ".lock"}
        for cache in (tmp_path / "a", tmp_path / "b")
    )
    assert first == second
    assert len(first) == 7


def test_too_few_texts_say_what_to_install(small, tmp_path):
    package(small, "smalltest", {"sort": (SUMMARIES[0], body(0)), "join": (SUMMARIES[1], body(100))})
    line = "pydocs: the installed packages give 0 of 2 train texts; install small-train"
    with pytest.raises(ProjheadsError, match=line):
        open_collection("pydocs", split="test", cache=tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("pydocs*"))
    package(small, "smalltrain", {"sort": ("Order the rows of a table.", body(200))})
    with pytest.raises(ProjheadsError, match="give 1 of 2 train texts; use a different collection"):
        open_collection("pydocs", split="test", cache=tmp_path / "cache")


def test_other_versions_are_kept_apart(small, tmp_path, monkeypatch):
    folders = set()
    for versions in ({"smalltest": "1.0"}, {"smalltest": "1.1"}, {"smalltest": "1.0", "smalltrain": "1.0"}):
        monkeypatch.setattr(pydocs, "_versions", lambda versions=versions: versions)
        folders.add(pydocs.pydocs_folder(tmp_path))
    assert len(folders) == 3
