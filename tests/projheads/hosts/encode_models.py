"""Run by test_cross_host.py in the environment of the other host: open checkpoints, write what they make of texts.

    python encode_models.py JOB.json

JOB.json: {"texts": [...], "checkpoints": [folder, ...]}. Beside each folder it writes <folder>.<host>.npz: for queries
and for documents the ids of the attended or scored tokens, and the embeddings by the adapter and, where the checkpoint
needs no projheads, by the plain host.
"""

import json
import sys
from pathlib import Path

import numpy as np

from projheads.hosts import load_host
from projheads.hosts.model_folder import OUR_PROJECTIONS, projections


def encode(folder: Path, texts: list[str]) -> dict[str, np.ndarray]:
    """Encode the texts as queries and as documents."""
    model = load_host().load(str(folder))
    plain = None if projections(folder)[0].type in OUR_PROJECTIONS else open_plain(model.host, folder)
    arrays = {}
    for side in ("query", "document"):
        tokens = model.tokenize(texts, is_query=side == "query")
        used = tokens["attention_mask"].bool() | model.scoring_mask(tokens, is_query=side == "query")
        for number, (ids, mask) in enumerate(zip(tokens["input_ids"], used, strict=True)):
            arrays[f"{side} {number} ids"] = ids[mask].numpy()
        for number, embeddings in enumerate(model.encode(texts, is_query=side == "query")):
            arrays[f"{side} {number} adapter"] = embeddings
        for number, embeddings in enumerate(plain(texts, side) if plain else []):
            arrays[f"{side} {number} plain"] = embeddings
    return arrays


def open_plain(host: str, folder: Path):
    """Open a checkpoint with the host only, without trust_remote_code."""
    if host == "pylate":
        from pylate.models import ColBERT

        native = ColBERT(str(folder), device="cpu")
        return lambda texts, side: native.encode(texts, is_query=side == "query", show_progress_bar=False)
    from sentence_transformers import MultiVectorEncoder

    native = MultiVectorEncoder(str(folder), device="cpu")
    encode = {"query": native.encode_query, "document": native.encode_document}
    return lambda texts, side: encode[side](texts, convert_to_numpy=True)


def main() -> None:
    """Do the job."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    host = load_host().__name__.rpartition(".")[2]
    for folder in map(Path, job["checkpoints"]):
        np.savez(folder.with_name(f"{folder.name}.{host}.npz"), **encode(folder, job["texts"]))


if __name__ == "__main__":
    main()
