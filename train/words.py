"""How often each word occurs in the training data, for the diagnostics of ``eval.explain``."""

from experiment.disk.layout import ExperimentFolder
from experiment.disk.records import WordsRecord
from experiment.words import count_texts
from train.data.examples import TrainingData

__all__ = ["write_words"]

MOST_WORDS = 2**17
"""Words that are kept; rarer ones count as absent."""


def write_words(folder: ExperimentFolder, data: TrainingData) -> None:
    """Count the texts of the examples that have each word, unless that is done."""
    record = WordsRecord.find(folder.words_json)
    if record is not None and record.data_hash == data.hash:
        return
    queries = sorted({int(place) for place in data.examples[:, 0]})
    documents = sorted({int(place) for place in data.examples[:, 1:].ravel() if place >= 0})
    texts = [*(data.queries[place] for place in queries), *(data.documents[place] for place in documents)]
    counts = sorted(count_texts(texts).items(), key=lambda pair: (-pair[1], pair[0]))[:MOST_WORDS]
    WordsRecord(data_hash=data.hash, texts=len(texts), words=dict(counts)).write(folder.words_json)
