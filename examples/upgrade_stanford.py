"""A deeper head in a model of Stanford's ColBERT; after training it becomes one matrix again, which colbert-ai loads.

python examples/upgrade_stanford.py [MODEL] [OUTPUT-FOLDER]
"""

import sys

import torch
from colbert.infra import ColBERTConfig
from colbert.modeling.checkpoint import Checkpoint

import projheads


def main(name: str = "colbert-ir/colbertv2.0", output: str = "outputs/upgraded") -> None:
    """Swap the head, compare the embeddings, fold, and save a model that colbert-ai opens."""
    colbert = Checkpoint(name, colbert_config=ColBERTConfig(), verbose=0)
    texts = ["late interaction keeps a vector for every token", "what is a projection head"]
    before = colbert.docFromText(texts)
    head = projheads.swap_head(colbert.model, "ffn(depth=2, residual=true)")
    change = float((colbert.docFromText(texts) - before).abs().max())
    print(f"{head.spec}: the embeddings change by {change:.0e}; a fine-tune can now move them")
    # ... train here ...
    projheads.fold_model(colbert)
    torch.testing.assert_close(colbert.docFromText(texts), before, rtol=0, atol=1e-5)
    colbert.save(output)
    print(f"saved to {output} with a single linear.weight")


if __name__ == "__main__":
    main(*sys.argv[1:])
