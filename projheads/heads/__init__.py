"""The built-in heads, one per file; :mod:`projheads.registry` discovers them."""
