import re
from pathlib import Path

import pytest

from train.__main__ import main

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))


def test_there_are_configurations_to_check():
    assert {path.stem for path in CONFIGS} >= {"quickstart", "finetune", "squad_to_beir"}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_dry_run(path, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    main([str(path), "--dry-run"])
    told = capsys.readouterr()
    assert re.search(
        rf"^{re.escape(str(path))}: .* seeds(, then up to \d+ in rounds)? into outputs", told.err, re.MULTILINE
    )
    assert "head_lr:" in told.out
    assert not list(tmp_path.iterdir())
