"""Answers the question of an experiment: trains and evaluates until it is decided, then reports."""
