"""The leaderboard: a pure function of result files. It imports neither torch nor faiss."""

from eval.report.write import compare, print_leaderboard, write_report

__all__ = ["compare", "print_leaderboard", "write_report"]
