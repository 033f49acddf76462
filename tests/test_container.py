"""The Dockerfile and the pages that install without make; `make lint` runs hadolint over the Dockerfile."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from projheads.__main__ import PROGRAMS

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_what_the_image_copies_exists():
    copied = [word for line in re.findall(r"^COPY (.+)$", DOCKERFILE, re.MULTILINE) for word in line.split()[:-1]]
    assert [word for word in copied if not (ROOT / word).exists()] == []
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert not set(copied) & set(ignored)
    built_from = {"pyproject.toml", PROJECT["project"]["readme"], *PROJECT["project"]["license-files"], "projheads"}
    assert built_from <= set(copied[: copied.index(".")])


def test_the_image_runs_an_experiment():
    (entry,) = re.findall(r"^ENTRYPOINT (.+)$", DOCKERFILE, re.MULTILINE)
    (command,) = re.findall(r"^CMD (.+)$", DOCKERFILE, re.MULTILINE)
    (script,) = json.loads(entry)
    program, config, *options = json.loads(command)
    assert script in PROJECT["project"]["scripts"]
    assert program in PROGRAMS
    assert (ROOT / config).is_file()
    from answer.__main__ import command_parser

    parsed = command_parser().parse_args([config, *options])
    assert str(parsed.config) == config


@pytest.mark.parametrize("file", ["Dockerfile", "docs/install.md", "README.md"])
def test_groups_extras_and_constraints_exist(file):
    text = (ROOT / file).read_text(encoding="utf-8")
    assert set(re.findall(r"--group (\S+)", text)) <= set(PROJECT["dependency-groups"])
    extras = {extra for found in re.findall(r"\.\[([\w,-]+)\]", text) for extra in found.split(",")}
    assert extras
    assert extras <= set(PROJECT["project"]["optional-dependencies"])
    assert all((ROOT / name).is_file() for name in re.findall(r"constraints/[\w-]+\.txt", text))


def test_torch_of_the_page_is_that_of_the_constraints():
    (version,) = re.findall(r"pip install torch==(\S+)", (ROOT / "docs" / "install.md").read_text(encoding="utf-8"))
    assert f"torch=={version}" in (ROOT / "constraints" / "pylate.txt").read_text(encoding="utf-8").splitlines()


def test_every_group_for_users_is_on_the_page():
    page = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    inner = {"experiment", "docs", "mutation", "test"}
    assert [name for name in PROJECT["dependency-groups"] if name not in inner and f"`{name}`" not in page] == []
