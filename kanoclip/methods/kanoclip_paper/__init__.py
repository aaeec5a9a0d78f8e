"""KAnoCLIP (Li et al. 2025, arXiv 2501.03786)."""

from kanoclip.methods.kanoclip_paper.model import KAnoCLIP

__all__ = ["KAnoCLIP"]
