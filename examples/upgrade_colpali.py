"""A deeper head in a model of colpali-engine; after training it becomes one layer again, which colpali-engine loads.

python examples/upgrade_colpali.py [MODEL] [OUTPUT-FOLDER]
"""

import sys

import torch
from colpali_engine.models import ColQwen2

import projheads


def main(name: str = "vidore/colqwen2-v1.0-merged", output: str = "outputs/upgraded") -> None:
    """Swap the head, compare the embeddings of some tokens, fold, and save a model of the same form."""
    model = ColQwen2.from_pretrained(name, dtype=torch.float32).eval()
    tokens = {"input_ids": torch.arange(1, 13)[None], "attention_mask": torch.ones(1, 12, dtype=torch.long)}
    with torch.no_grad():
        before = model(**tokens)
        head = projheads.swap_head(model, "ffn(depth=2, residual=true, bias=true)")
        change = float((model(**tokens) - before).abs().max())
        print(f"{head.spec}: the embeddings change by {change:.0e}; a fine-tune can now move them")
        # ... train here ...
        projheads.fold_model(model)
        torch.testing.assert_close(model(**tokens), before, rtol=0, atol=1e-5)
    model.save_pretrained(output)
    print(f"saved to {output} with a single custom_text_proj")


if __name__ == "__main__":
    main(*sys.argv[1:])
