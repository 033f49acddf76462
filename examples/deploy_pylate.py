"""A better head for a PyLate model in production: swap, fine-tune, evaluate, decide, fold, push.

python -m examples.deploy_pylate MODEL TRIPLETS.jsonl DATA OUTPUT OWNER/NAME [push]
"""

import json
import sys
from pathlib import Path

from datasets import Dataset
from pylate import losses, models, utils
from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments

from examples.decide import choose, publish
from projheads import swap_head
from projheads.export import fold_model

HEAD = "ffn(depth=2, residual=true)"


def fine_tune(name: str, spec: str | None, triplets: str, output: Path) -> Path:
    """Fine-tune a model with PyLate's trainer, with its own head or a new one that starts from the same embeddings."""
    model = models.ColBERT(name)
    if spec is not None:
        swap_head(model, spec)
    lines = Path(triplets).read_text(encoding="utf-8").splitlines()  # {"query": ..., "positive": ..., "negative": ...}
    trainer = SentenceTransformerTrainer(
        model=model,
        args=SentenceTransformerTrainingArguments(
            str(output),
            num_train_epochs=1,
            per_device_train_batch_size=32,
            learning_rate=1e-5,
            seed=0,
            report_to=[],
            save_strategy="no",
        ),
        train_dataset=Dataset.from_list([json.loads(line) for line in lines]),
        loss=losses.Contrastive(model),
        data_collator=utils.ColBERTCollator(model.tokenize),
    )
    trainer.train()
    model.save_pretrained(str(output), create_model_card=False)
    return output


def main(name: str, triplets: str, data: str, output: str, repo: str, last: str = "") -> None:
    """Fine-tune both heads on the same triplets, deploy the better model, and open it without projheads."""
    folder = Path(output)
    old = fine_tune(name, None, triplets, folder / "old-head")
    new = fine_tune(name, HEAD, triplets, folder / "new-head")
    chosen = choose(old, new, data, folder / "evaluation")
    written = fold_model(chosen, folder / "deployed")
    print(f"{written.out}: one matrix, opens in {', '.join(written.opens_in)}")
    models.ColBERT(written.out)
    publish(Path(written.out), repo, send=last == "push")


if __name__ == "__main__":
    main(*sys.argv[1:])
