"""Datasets: what they are (specs), how they reach the disk (prepare), how they are read (index, images, loading).

This package imports no torch.
"""
