"""The built-in diagnostics, one per file; :mod:`eval.explain.registry` discovers them."""
