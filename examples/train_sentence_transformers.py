"""Train a projheads head with the trainer and a loss of sentence-transformers >= 6.

python examples/train_sentence_transformers.py [BACKBONE] [OUTPUT-FOLDER]
"""

import sys

from datasets import Dataset
from sentence_transformers import MultiVectorEncoderTrainer, MultiVectorEncoderTrainingArguments
from sentence_transformers.multi_vector_encoder import losses

from projheads import build_head
from projheads.hosts import sentence_transformers as host
from projheads.hosts.base import EncodingSettings

TRIPLETS = {  # your own data: a query, a document that answers it, one that does not
    "query": ["capital of france", "what does a cat do"] * 4,
    "positive": ["paris is the capital", "the cat sat on the mat"] * 4,
    "negative": ["the rain is blue", "where is the sun"] * 4,
}


def main(backbone: str = "sentence-transformers/all-MiniLM-L6-v2", output: str = "outputs/mve") -> None:
    """Train on triplets and save a model that MultiVectorEncoder opens with trust_remote_code=True."""
    head = build_head("upscaled(residual=true)", host.backbone_width(backbone), 128)
    model = host.create(backbone, head, EncodingSettings()).native
    names = {"query": "query", "positive": "document", "negative": "document"}
    prompts = {column: model.prompts[name] for column, name in names.items()}  # encode adds them, the trainer does not
    args = MultiVectorEncoderTrainingArguments(output, max_steps=4, prompts=prompts, save_strategy="no", use_cpu=True)
    loss = losses.MultiVectorMultipleNegativesRankingLoss(model)
    trainer = MultiVectorEncoderTrainer(model=model, args=args, train_dataset=Dataset.from_dict(TRIPLETS), loss=loss)
    trainer.train()
    model.save_pretrained(output, create_model_card=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
