"""The heads, one file each; :mod:`projheads.registry` finds them by their files."""
