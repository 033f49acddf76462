"""The notebook, run in a kernel with a tiny random model instead of MiniLM."""

import re
from pathlib import Path

import pytest

from tests.examples.test_deploy import ROOT, collection

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

NOTEBOOK = ROOT / "examples" / "model_to_verdict.ipynb"


def test_the_notebook_runs(backbone, tmp_path):
    collection(tmp_path / "set", ("train", "test"))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    settings = next(cell for cell in notebook.cells if cell.cell_type == "code")
    names = {"BACKBONE": str(backbone), "DATA": str(tmp_path / "set")}
    assert all(f"\n{name} = " in settings.source for name in (*names, "FOLDER"))
    folder = f"FOLDER = Path({str(tmp_path / 'out')!r})"
    given = [f"{name} = {value!r}" for name, value in names.items()]
    settings.source = "\n".join(["from pathlib import Path", *given, folder])
    small = {
        "batch_size: 32, validations: 1": "batch_size: 4, validations: 1, validation_pairs: 4",
        "  init: pca": "  init: pca\n  out_features: 8",
        "seeds: [0, 1, 2]": "seeds: [0, 1, 2]\ncache: {FOLDER / 'cache'}",
        '"--workers", "auto"': '"--workers", "1"',
    }
    written = "".join(cell.source for cell in notebook.cells)
    assert all(old in written for old in small)
    for cell in notebook.cells:
        for old, new in small.items():
            cell.source = cell.source.replace(old, new)
    client = nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(ROOT)}})
    try:
        client.execute()
    except nbclient.exceptions.CellExecutionError as error:
        printed = [output for cell in notebook.cells for output in cell.get("outputs", [])]
        pytest.fail(f"{error}\n{printed}")
    printed = ["".join(output.get("text", "") for output in cell.get("outputs", [])) for cell in notebook.cells]
    verdict = next(text for text in printed if "upscaled(residual=true) " in text and "baseline" in text)
    assert "linear" in verdict
    changes = [
        float(text) for text in re.findall(r"(?:change by|opened again:) (\S+)$", "".join(printed), re.MULTILINE)
    ]
    assert len(changes) == 2
    assert max(changes) < 1e-5


def test_the_outputs_that_are_kept_are_of_the_last_run():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert str(Path.home()) not in text
    assert "/work/" not in text
