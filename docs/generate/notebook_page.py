"""A notebook as a page: its text, its code, and the output of its last run."""

import json
import re
from pathlib import Path

__all__ = ["notebook_page"]


def notebook_page(file: Path) -> str:
    """Return the page's Markdown."""
    parts = []
    for cell in json.loads(file.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(re.sub(r"\]\(\.\./docs/", "](../", text))
            continue
        parts.append(f"```python\n{text}\n```")
        printed = "".join("".join(output.get("text", "")) for output in cell["outputs"]).rstrip()
        if printed:
            parts.append(f"```text\n{printed}\n```")
    parts.append(f"The notebook is `examples/{file.name}`; the tests run it.")
    return "\n\n".join(parts) + "\n"
