"""Which hosts there are."""

import importlib.metadata
import subprocess
import sys

import pytest

from projheads import ProjheadsError
from projheads.hosts import available_hosts, load_host


@pytest.fixture
def installed(monkeypatch):
    """Choose what seems to be installed."""

    def choose(**versions):
        def version(package):
            if package.replace("-", "_") not in versions:
                raise importlib.metadata.PackageNotFoundError(package)
            return versions[package.replace("-", "_")]

        monkeypatch.setattr(importlib.metadata, "version", version)

    return choose


@pytest.mark.parametrize(
    ("versions", "available"),
    [
        ({}, []),
        ({"pylate": "1.6.0", "sentence_transformers": "5.3.0"}, ["pylate"]),
        ({"sentence_transformers": "6.2.0"}, ["sentence-transformers"]),
        ({"sentence_transformers": "5.9.1"}, []),
        ({"pylate": "1.6.0", "sentence_transformers": "6.0.0rc1"}, ["pylate", "sentence-transformers"]),
    ],
)
def test_a_host_is_available_from_the_version_that_the_adapter_needs(installed, versions, available):
    installed(**versions)
    assert available_hosts() == available


def test_without_any_host_the_line_says_what_to_install(installed):
    installed()
    with pytest.raises(ProjheadsError, match=r"pip install 'projheads\[pylate\]'"):
        load_host()


def test_a_host_that_is_not_installed(installed):
    installed(pylate="1.6.0", sentence_transformers="5.3.0")
    with pytest.raises(ProjheadsError, match="needs sentence-transformers >= 6"):
        load_host("sentence-transformers")


def test_an_unknown_host():
    with pytest.raises(ProjheadsError, match='did you mean "pylate"'):
        load_host("pilate")


@pytest.mark.skipif(not available_hosts(), reason="no host is installed")
def test_auto_takes_the_first_that_is_installed():
    assert load_host() is load_host(available_hosts()[0])
    assert load_host().__name__.rpartition(".")[2] == available_hosts()[0].replace("-", "_")


def test_naming_the_hosts_imports_none():
    code = (
        "import sys, projheads.hosts, projheads.hosts.base, projheads.hosts.head_files, projheads.hosts.backbone\n"
        "projheads.hosts.available_hosts()\n"
        "print(sorted({'pylate', 'sentence_transformers', 'transformers'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
