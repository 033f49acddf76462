"""The leaderboard: a pure function of result files. It imports neither torch nor faiss."""

from eval.report.write import compare, write_report

__all__ = ["compare", "write_report"]
