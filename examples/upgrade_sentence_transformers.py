"""A deeper head in a trained MultiVectorEncoder, whose embeddings do not change until it is fine-tuned.

python examples/upgrade_sentence_transformers.py [MODEL] [OUTPUT-FOLDER]
"""

import sys

import numpy as np
from sentence_transformers import MultiVectorEncoder

import projheads

TEXTS = ["late interaction keeps a vector for every token", "what is a projection head"]


def main(name: str = "lightonai/GTE-ModernColBERT-v1", output: str = "outputs/upgraded") -> None:
    """Swap the head, compare the embeddings, save, and open what was saved."""
    model = MultiVectorEncoder(name, device="cpu")
    before = model.encode_document(TEXTS, convert_to_numpy=True)
    head = projheads.swap_head(model, "ffn(depth=2, residual=true)")
    after = model.encode_document(TEXTS, convert_to_numpy=True)
    change = max(float(np.abs(old - new).max()) for old, new in zip(before, after, strict=True))
    print(f"{head.spec}: the embeddings change by {change:.0e}; a fine-tune can now move them")
    model.save_pretrained(output, create_model_card=False)
    MultiVectorEncoder(output, device="cpu", trust_remote_code=True)  # the model names a class of projheads
    print(f"saved to {output}; folded into one matrix it has {projheads.fold(head).weight.numel():,} parameters")


if __name__ == "__main__":
    main(*sys.argv[1:])
