"""Training texts as token embeddings, with as much computed only once as the trained layers allow."""
