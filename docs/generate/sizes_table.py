"""The table of what BEIR and MS MARCO take, in the guide to evaluation."""

from text import table

from eval.on_paper import evaluation_on_paper
from eval.report.paper_table import HEADER, sizes_rows

__all__ = ["SPEED", "WORKERS", "sizes_table"]

SPEED, WORKERS = 4e14, 8


def sizes_table() -> str:
    """Return the Markdown of a table for seven heads on ModernBERT-base."""
    evaluation = evaluation_on_paper(parameters=149e6, embedding=38.7e6, layers=22, width=768)
    return table(list(HEADER), sizes_rows(evaluation, speed=SPEED, workers=WORKERS))
