"""The spelling of sources, and BEIR's archives downloaded from a server on this machine."""

import io
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from experiment.collections import (
    Document,
    beir_hub,
    check_source,
    open_collection,
    pydocs,
    sources,
    write_beir_folder,
)
from experiment.collections.beir_folder import read_beir_folder
from experiment.collections.source import Source
from experiment.collections.sources import SOURCES
from experiment.config.load import load_config
from experiment.disk.files import write_folder
from projheads.errors import ProjheadsError, UnknownNameError
from train.data.examples import load_training_data


def tiny(folder, split="test"):
    write_beir_folder(folder, [Document("d1", "", "text")], {"q1": "query"}, {split: {"q1": {"d1": 1}}})
    return folder


@pytest.mark.parametrize(
    "source, meant",
    [("pydoc", "pydocs"), ("scifact", "beir:scifact"), ("bier:scifact", "beir:scifact"), ("beir:nqq", "nq")],
)
def test_unknown_names_say_what_was_meant(source, meant):
    with pytest.raises(UnknownNameError) as error:
        check_source(source)
    assert str(error.value).endswith(f'did you mean "{meant}"?')
    assert f'"{source.removeprefix("beir:")}"' in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("source", ["", "zzzz", "s3://bucket/x", "hf:scifact", "hf:a/b/c/d", "hf:/b", "beir:", "hf:"])
def test_sources_that_can_not_be(source, tmp_path):
    for call in (check_source, partial(open_collection, split="test", cache=tmp_path)):
        with pytest.raises(ProjheadsError):
            call(source)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_another_layout(tmp_path):
    with pytest.raises(ProjheadsError, match="not a folder in BEIR layout"):
        check_source(str(tmp_path))


def test_a_folder_that_is_not_there_yet(tmp_path):
    source = str(tmp_path / "later")
    assert check_source(source) == f"{source}: the folder does not exist yet"
    with pytest.raises(ProjheadsError, match="later: not a folder in BEIR layout"):
        open_collection(source, split="test")


def test_a_folder(tmp_path, monkeypatch):
    tiny(tmp_path / "mine")
    assert check_source(str(tmp_path / "mine")) is None
    assert open_collection(str(tmp_path / "mine"), split="test").queries == {"q1": "query"}
    monkeypatch.chdir(tmp_path)
    assert check_source("mine") is None
    assert open_collection("mine", split="test").name == "mine"


def test_what_is_not_on_this_disk_yet_is_a_warning(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    for source in ("pydocs", "beir:scifact", "beir:cqadupstack/tex", "hf:BeIR/scifact", "hf:mteb/many/de"):
        warning = check_source(source, cache=tmp_path)
        assert warning is not None
        assert warning.startswith(f"{source}: not on this disk yet")
    tiny(tmp_path / "beir" / "scifact")
    assert check_source("beir:scifact", cache=tmp_path) is None
    (tmp_path / "hub" / "datasets--BeIR--scifact").mkdir(parents=True)
    assert check_source("hf:BeIR/scifact", cache=tmp_path) is None


def test_the_default_cache_is_used(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "DEFAULT_CACHE", tmp_path)
    tiny(tmp_path / "beir" / "scifact")
    assert check_source("beir:scifact") is None
    assert open_collection("beir:scifact", split="test").name == "scifact"


asked = []
"""What the server was asked for since it was started."""


@pytest.fixture
def beir_server(tmp_path, monkeypatch):
    """A server of archives as BEIR's; yields the folder that it serves."""

    class Silent(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            asked.append(args)

    root = tmp_path / "served"
    root.mkdir()
    asked.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=str(root)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(beir_hub, "URL", f"http://127.0.0.1:{server.server_port}/{{}}.zip")
    yield root
    server.shutdown()
    server.server_close()


def serve(root, archive, *collections):
    """Put an archive on the server, with the collections as folders in it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archived:
        for collection in collections:
            folder = tiny(root.parent / "unzipped" / collection)
            for file in folder.rglob("*.*"):
                archived.write(file, file.relative_to(root.parent / "unzipped"))
    (root / f"{archive}.zip").write_bytes(buffer.getvalue())


def test_a_beir_collection_is_downloaded_once(beir_server, tmp_path):
    serve(beir_server, "scifact", "scifact")
    cache = tmp_path / "cache"
    collection = open_collection("beir:scifact", split="test", cache=cache)
    assert (collection.name, collection.qrels) == ("scifact", {"q1": {"d1": 1}})
    assert sorted(path.name for path in (cache / "beir" / "scifact").iterdir()) == [
        "corpus.jsonl",
        "qrels",
        "queries.jsonl",
    ]
    (beir_server / "scifact.zip").unlink()
    assert open_collection("beir:scifact", split="test", cache=cache) == collection


def at_once(count, call):
    """Call from threads that begin together; locks of files keep threads apart as they do processes."""
    barrier = threading.Barrier(count)

    def begin(_):
        barrier.wait()
        return call()

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(begin, range(count)))


def test_who_asks_for_one_collection_at_once_gets_one_download(beir_server, tmp_path):
    serve(beir_server, "scifact", "scifact")
    found = at_once(4, lambda: open_collection("beir:scifact", split="test", cache=tmp_path / "cache"))
    assert all(collection == found[0] for collection in found)
    assert len(asked) == 1


def test_who_asks_for_pydocs_at_once_makes_it_once(tmp_path, monkeypatch):
    made = []

    def make(folder):
        made.append(folder)
        with write_folder(folder) as temporary:
            tiny(temporary / "test")

    monkeypatch.setattr(pydocs, "_make", make)
    found = at_once(4, lambda: open_collection("pydocs", split="test", cache=tmp_path))
    assert {collection.hash for collection in found} == {found[0].hash}
    assert len(made) == 1


def test_the_parts_of_cqadupstack_come_in_one_archive(beir_server, tmp_path):
    serve(beir_server, "cqadupstack", "cqadupstack/tex", "cqadupstack/gis")
    assert open_collection("beir:cqadupstack/tex", split="test", cache=tmp_path / "cache").name == "cqadupstack/tex"
    (beir_server / "cqadupstack.zip").unlink()
    assert open_collection("beir:cqadupstack/gis", split="test", cache=tmp_path / "cache").name == "cqadupstack/gis"


def test_an_answer_that_is_no_archive_leaves_nothing(beir_server, tmp_path):
    with pytest.raises(ProjheadsError, match="did not return a zip archive"):
        open_collection("beir:scifact", split="test", cache=tmp_path / "cache")
    assert [path.name for path in (tmp_path / "cache").rglob("*.*")] == [".scifact.lock"]
    serve(beir_server, "scifact", "scifact")
    assert open_collection("beir:scifact", split="test", cache=tmp_path / "cache").queries == {"q1": "query"}


def test_no_network_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(beir_hub, "URL", "http://127.0.0.1:1/{}.zip")
    with pytest.raises(ProjheadsError, match="cannot be reached") as error:
        open_collection("beir:scifact", split="test", cache=tmp_path)
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.rglob("*")] == ["beir", ".scifact.lock"]


@pytest.fixture
def made_up(monkeypatch):
    """A source that is one entry of the table: `toy:<number of documents>`."""

    def open_toy(name, split, cache):
        write_beir_folder(
            cache / "toy",
            [Document(f"d{i}", "", f"text {i}") for i in range(int(name))],
            {f"q{i}": f"query {i}" for i in range(int(name))},
            {split: {f"q{i}": {f"d{i}": 1} for i in range(int(name))}},
        )
        return read_beir_folder(cache / "toy", split=split, name=f"toy {name}")

    toy = Source(
        spelling="toy:<number>",
        about="as many documents as you like",
        open=open_toy,
        missing=lambda name, cache: None if (cache / "toy").is_dir() else "not written yet",
        split=lambda name: "held-out",
        label=lambda name: f"Toy/{name}",
        examples=lambda: ["toy:12"],
    )
    monkeypatch.setitem(SOURCES, "toy", toy)
    return toy


def test_a_new_source_is_one_entry_of_the_table(made_up, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    path = tmp_path / "try.yaml"
    path.write_text(
        "heads: {variants: [linear]}\ntrain: {data: 'toy:12', batch_size: 4}\n"
        f"eval: {{datasets: ['toy:12']}}\ncache: {cache}\n"
    )
    config = load_config(path)
    assert (config.eval.datasets[0].split, config.eval.datasets[0].name) == ("held-out", "Toy-12")
    assert config.train.data.warnings(cache) == ["toy:12: not written yet"]
    data = load_training_data(config)
    assert sorted(data.documents) == sorted(f"text {i}" for i in range(12))
    assert check_source("toy:12", cache=cache) is None
    assert open_collection("toy:12", split="held-out", cache=cache).qrels["q3"] == {"d3": 1}
    with pytest.raises(UnknownNameError, match=r'known: .*toy:<number>.*; did you mean "toy:12"\?'):
        check_source("tyo:12")
    monkeypatch.setitem(SOURCES, "toy", replace(made_up, not_for_training="train on pydocs"))
    with pytest.raises(ProjheadsError, match='"toy:12" is only for testing; train on pydocs'):
        load_config(path)
