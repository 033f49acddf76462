"""Where an experiment lives on disk: its layout, its files, its records, its models and its locks."""
