"""Datasets: what they are (specs), how they reach the disk (prepare), how they are read (index). Knows no torch."""
