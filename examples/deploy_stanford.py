"""A better head for a model of Stanford's ColBERT: PyLate opens and trains it, and colbert-ai opens the result.

python -m examples.deploy_stanford MODEL TRIPLETS.jsonl DATA OUTPUT OWNER/NAME [push]
"""

import sys
from pathlib import Path

from examples.decide import choose, publish
from examples.deploy_pylate import HEAD, fine_tune
from projheads.export import export_model


def main(name: str, triplets: str, data: str, output: str, repo: str, last: str = "") -> None:
    """Fine-tune both heads on the same triplets, and deploy the better model in Stanford's layout."""
    folder = Path(output)
    old = fine_tune(name, None, triplets, folder / "old-head")
    new = fine_tune(name, HEAD, triplets, folder / "new-head")
    chosen = choose(old, new, data, folder / "evaluation")
    written = export_model(chosen, folder / "deployed", to="stanford")
    print(f"{written.out}: one linear.weight, opens in {', '.join(written.opens_in)}")
    publish(Path(written.out), repo, send=last == "push")


if __name__ == "__main__":
    main(*sys.argv[1:])
