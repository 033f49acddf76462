"""Search by MaxSim: exact, with a FAISS index, over compressed vectors, and BM25 beside them."""
