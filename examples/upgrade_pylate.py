"""A deeper head in a trained PyLate model, whose embeddings do not change until it is fine-tuned.

python examples/upgrade_pylate.py [MODEL] [OUTPUT-FOLDER]
"""

import sys

import numpy as np
from pylate import models

import projheads

TEXTS = ["late interaction keeps a vector for every token", "what is a projection head"]


def main(name: str = "lightonai/GTE-ModernColBERT-v1", output: str = "outputs/upgraded") -> None:
    """Swap the head, compare the embeddings, and save a model that PyLate opens."""
    model = models.ColBERT(name, device="cpu")
    before = model.encode(TEXTS, is_query=False)
    head = projheads.swap_head(model, "ffn(depth=2, residual=true)")
    after = model.encode(TEXTS, is_query=False)
    change = max(float(np.abs(old - new).max()) for old, new in zip(before, after, strict=True))
    print(f"{head.spec}: the embeddings change by {change:.0e}; a fine-tune can now move them")
    model.save_pretrained(output, create_model_card=False)
    print(f"saved to {output}; folded into one matrix it has {projheads.fold(head).weight.numel():,} parameters")


if __name__ == "__main__":
    main(*sys.argv[1:])
