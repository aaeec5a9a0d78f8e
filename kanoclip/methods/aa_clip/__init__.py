"""AA-CLIP (Ma et al., CVPR 2025, arXiv 2503.06661)."""

from kanoclip.methods.aa_clip.model import AaClip

__all__ = ["AaClip"]
