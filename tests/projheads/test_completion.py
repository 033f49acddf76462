"""What the shell offers after a few letters, with the script that shtab makes."""

import shutil
import subprocess

import pytest

from projheads.completion import completion_parser

shtab = pytest.importorskip("shtab")


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    if shutil.which("bash") is None:
        pytest.skip("no bash")
    path = tmp_path_factory.mktemp("completion") / "projheads.bash"
    parser = completion_parser()
    parser.prog = "projheads"
    path.write_text(shtab.complete(parser, "bash"))
    return path


@pytest.mark.parametrize(
    "words, offered",
    [
        (["sw"], ["swap"]),
        (["ev"], ["eval"]),
        (["eval", "comp"], ["compare"]),
        (["swap", "--out-f"], ["--out-features"]),
        (["train", "try.yaml", "--dry"], ["--dry-run"]),
        (["train", "try"], ["try.yaml"]),
        (["fold", "mod"], ["model"]),
    ],
)
def test_commands_options_and_files_are_completed(script, tmp_path, words, offered):
    (tmp_path / "try.yaml").touch()
    (tmp_path / "model").mkdir()
    quoted = " ".join(["projheads", *words])
    lines = (
        f'source {script}; COMP_WORDS=({quoted}); COMP_CWORD={len(words)}; _shtab_projheads; echo "${{COMPREPLY[@]}}"'
    )
    done = subprocess.run(["bash", "-c", lines], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == offered
