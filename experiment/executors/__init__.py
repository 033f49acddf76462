"""Where the independent parts of an experiment are computed: this process or a Ray cluster."""
