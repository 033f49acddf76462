"""Train a projheads head with PyLate's own trainer and loss.

python examples/train_pylate.py [BACKBONE] [OUTPUT-FOLDER]
"""

import sys

from datasets import Dataset
from pylate import losses, utils
from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments

from projheads import build_head
from projheads.hosts import pylate as host
from projheads.hosts.base import EncodingSettings

TRIPLETS = {  # your own data: a query, a document that answers it, one that does not
    "query": ["capital of france", "what does a cat do"] * 4,
    "positive": ["paris is the capital", "the cat sat on the mat"] * 4,
    "negative": ["the rain is blue", "where is the sun"] * 4,
}


def main(backbone: str = "sentence-transformers/all-MiniLM-L6-v2", output: str = "outputs/pylate") -> None:
    """Train on triplets and save a model that plain PyLate opens."""
    head = build_head("upscaled(residual=true)", host.backbone_width(backbone), 128)
    model = host.create(backbone, head, EncodingSettings()).native
    trainer = SentenceTransformerTrainer(
        model=model,
        args=SentenceTransformerTrainingArguments(output, max_steps=4, report_to=[], save_strategy="no", use_cpu=True),
        train_dataset=Dataset.from_dict(TRIPLETS),
        loss=losses.Contrastive(model),
        data_collator=utils.ColBERTCollator(model.tokenize),
    )
    trainer.train()
    model.save_pretrained(output, create_model_card=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
