"""Features of images: computed live by frozen towers, or read from a cache. Methods see no difference."""

from kanoclip.features.cache import FeatureCache, encode
from kanoclip.features.cached import CachedFeatures
from kanoclip.features.live import LiveFeatures
from kanoclip.features.source import FeatureSource

__all__ = ["CachedFeatures", "FeatureCache", "FeatureSource", "LiveFeatures", "encode"]
