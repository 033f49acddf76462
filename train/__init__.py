"""YAML-configured training of projection heads: variants x seeds -> trials. Run it with ``python -m train``."""
