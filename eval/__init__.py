"""Evaluation of frozen sentence encoders: SentEval's probes, and the geometry of embeddings."""
