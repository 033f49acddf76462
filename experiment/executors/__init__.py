"""Where the independent parts of an experiment are computed."""
