"""Trials -> TREC runs -> measures -> verdicts -> leaderboard. Run it with ``python -m eval``."""
