"""The typed configuration: every key, its default and the reason for it. The JSON schema is generated from here."""

from kanoclip.config.backbone import BackboneConfig, TowerConfig
from kanoclip.config.configuration import Configuration, DatasetConfig, EvaluationConfig, MethodConfig
from kanoclip.config.knowledge import EndpointConfig, KnowledgeConfig, LlmConfig, VqaConfig
from kanoclip.config.pretraining import PretrainingConfig
from kanoclip.config.strict import Strict, parse, with_nulls

__all__ = [
    "BackboneConfig",
    "Configuration",
    "DatasetConfig",
    "EndpointConfig",
    "EvaluationConfig",
    "KnowledgeConfig",
    "LlmConfig",
    "MethodConfig",
    "PretrainingConfig",
    "Strict",
    "TowerConfig",
    "VqaConfig",
    "parse",
    "with_nulls",
]
