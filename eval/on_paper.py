"""What evaluating BEIR and MS MARCO takes, on paper: published sizes of the collections, and a stated speed.

The numbers of documents, queries and words are those of BEIR (Thakur et al., 2021, table 1) and of MS MARCO's second
passage collection, whose words per passage are taken to be those of the first.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from eval.sizes import Heads, Work, stored_need, streamed_need
from experiment.needs import Backbone, Need

__all__ = ["COLLECTIONS", "Collection", "Evaluation", "evaluation_on_paper", "paper_needs"]

TOKENS_PER_WORD = 1.35
"""Word pieces of BERT for each word: the mean over SciFact, CLEF 2020, SQuAD, MedQuAD and NPL (1.22 to 1.56)."""

SPECIAL_TOKENS = 3


@dataclass(frozen=True)
class Collection:
    """A published collection.

    Attributes:
        documents: How many documents there are.
        queries: How many judged queries.
        words: Words of a document, on average.
    """

    documents: int
    queries: int
    words: float


COLLECTIONS = {
    "msmarco": Collection(8_841_823, 6_980, 55.98),
    "trec-covid": Collection(171_332, 50, 160.77),
    "nfcorpus": Collection(3_633, 323, 232.26),
    "bioasq": Collection(14_914_602, 500, 202.61),
    "nq": Collection(2_681_468, 3_452, 78.88),
    "hotpotqa": Collection(5_233_329, 7_405, 46.30),
    "fiqa": Collection(57_638, 648, 132.32),
    "signal1m": Collection(2_866_316, 97, 13.93),
    "trec-news": Collection(594_977, 57, 634.79),
    "robust04": Collection(528_155, 249, 466.40),
    "arguana": Collection(8_674, 1_406, 166.80),
    "webis-touche2020": Collection(382_545, 49, 292.37),
    "cqadupstack": Collection(457_199, 13_145, 129.09),
    "quora": Collection(522_931, 10_000, 11.44),
    "dbpedia-entity": Collection(4_635_922, 400, 49.68),
    "scidocs": Collection(25_657, 1_000, 176.19),
    "fever": Collection(5_416_568, 6_666, 84.76),
    "climate-fever": Collection(5_416_593, 1_535, 84.76),
    "scifact": Collection(5_183, 300, 213.63),
    "msmarco-v2": Collection(138_364_198, 3_903, 55.98),
}


@dataclass(frozen=True)
class Evaluation:
    """What is evaluated, on paper.

    Attributes:
        backbone: The backbone.
        heads: The heads.
        document_length: Documents are truncated to this many tokens.
        query_length: Every query has so many.
        depth: Documents kept for each query.
    """

    backbone: Backbone
    heads: Heads
    document_length: int = 180
    query_length: int = 32
    depth: int = 100

    def work(self, collection: Collection) -> Work:
        """Return the work of a collection; no document has more tokens than the mean document, or the limit."""
        length = min(SPECIAL_TOKENS + TOKENS_PER_WORD * collection.words, self.document_length)
        documents, queries = collection.documents * length, collection.queries * self.query_length
        return Work(
            documents=collection.documents,
            document_tokens=documents,
            queries=collection.queries,
            query_tokens=queries,
            flop=self.backbone.flop(documents, length) + self.backbone.flop(queries, self.query_length),
            width=self.backbone.width,
            depth=self.depth,
        )


def evaluation_on_paper(
    *,
    parameters: float = 22.7e6,
    embedding: float = 11.9e6,
    layers: int = 6,
    width: int = 384,
    out_features: int = 128,
    heads: int = 7,
    document_length: int = 180,
    trained: bool = False,
) -> Evaluation:
    """Describe an evaluation of linear heads of one width; the defaults are those of MiniLM.

    Args:
        parameters: Parameters of the backbone.
        embedding: Those of them in embedding tables, which multiply nothing.
        layers: Layers of the backbone.
        width: Width of a token state.
        out_features: Width of a token embedding.
        heads: Number of heads.
        document_length: Documents are truncated to this many tokens.
        trained: Whether each head has its own backbone.
    """
    searched = Heads([out_features] * heads, heads * width * out_features, not trained, heads if trained else 1)
    return Evaluation(Backbone(parameters - embedding, layers, width), searched, document_length)


def paper_needs(evaluation: Evaluation, names: Iterable[str]) -> dict[str, tuple[Work, Need, Need]]:
    """Return for each named collection the work, and what it takes stored and streamed."""
    works = {name: evaluation.work(COLLECTIONS[name]) for name in names}
    return {
        name: (work, stored_need(work, evaluation.heads), streamed_need(work, evaluation.heads))
        for name, work in works.items()
    }
