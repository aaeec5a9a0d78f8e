"""The knowledge base: descriptions of anomalies in words."""
