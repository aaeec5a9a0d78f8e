"""Pretraining of the embedded CLIP on procedural images only."""
