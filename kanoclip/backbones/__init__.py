"""Backbones: CLIP models with two token streams, and the one shipped with the package."""
