"""The JSON schema of a configuration file and the page of its keys, from the models that check it."""

import json
from typing import Any

from pydantic import BaseModel

from kanoclip.config import (
    BackboneConfig,
    Configuration,
    DatasetConfig,
    EvaluationConfig,
    KnowledgeConfig,
    LlmConfig,
    MethodConfig,
    PretrainingConfig,
    TowerConfig,
    VqaConfig,
)
from kanoclip.datasets.specs import dataset_names
from kanoclip.methods import method_class, method_names


def configuration_schema() -> dict[str, Any]:
    """Return the schema as plain values. Editors read it; a test keeps the committed file equal to it."""
    schema = Configuration.model_json_schema()
    shared = MethodConfig.model_json_schema()["properties"]
    definitions = schema["$defs"]
    for name in method_names():
        own = method_class(name).Options.model_json_schema()
        definitions[f"method_{name}"] = {
            "type": ["object", "null"],
            "properties": shared | own.get("properties", {}),
            "additionalProperties": False,
        }
    schema["properties"]["methods"]["properties"] = {
        name: {"$ref": f"#/$defs/method_{name}"} for name in method_names()
    }
    rows = schema["properties"]["ablations"]["additionalProperties"]
    rows["additionalProperties"] = {"anyOf": [rows["additionalProperties"], {"type": "null"}]}
    schema["properties"]["targets"]["items"]["examples"] = dataset_names()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "kanoclip configuration"}


README_HEAD = """# Configuration

This page lists every key of a configuration, with its default and the reason for it. `config.yaml` is the paper,
`quickstart.yaml` the embedded default, `extended.yaml` the same with every registered method, `folder.yaml` an example
with images of your own, `pretraining.yaml` the recipe of the embedded backbone from scratch. A file given with
`--configfile` stands alone; keys that it leaves out have the defaults below. A misspelt key is refused and the nearest
valid one is named. Made by `make generated` from the code; do not edit.
"""


def configuration_readme() -> str:
    """Return every key with its default and the reason for it, in Markdown."""
    parts = [README_HEAD, _section("The run", Configuration)]
    parts.append(_section("`backbones.<name>`", BackboneConfig))
    parts.append(_section("`backbones.<name>.towers.<tower>`", TowerConfig))
    parts.append(_section("`datasets.<name>`", DatasetConfig))
    parts.append(_section("`knowledge`", KnowledgeConfig))
    parts.append(_section("`knowledge.llm`", LlmConfig))
    parts.append(_section("`knowledge.vqa`", VqaConfig))
    parts.append(_section("`evaluation`", EvaluationConfig))
    parts.append(_section("`pretraining`", PretrainingConfig))
    parts.append(_section("`methods.<name>`, for every method", MethodConfig))
    for name in method_names():
        if method_class(name).Options.model_fields:
            parts.append(_section(f"`methods.{name}`", method_class(name).Options))
    return "\n".join(parts)


def _section(title: str, model: type[BaseModel]) -> str:
    lines = [f"## {title}", "", "| key | default | meaning |", "| --- | --- | --- |"]
    for key, field in model.model_fields.items():
        default = "required" if field.is_required() else f"`{_as_yaml(field.get_default(call_default_factory=True))}`"
        lines.append(f"| `{key}` | {default} | {field.description or ''} |")
    return "\n".join(lines) + "\n"


def _as_yaml(value: Any) -> str:
    """Return a default on one line; of nested groups only their names."""
    if isinstance(value, BaseModel):
        return "{}"
    if isinstance(value, dict) and any(isinstance(entry, BaseModel) for entry in value.values()):
        return f"{', '.join(value)}"
    return json.dumps(value)
