"""The JSON schema of a configuration file: the typed configuration with every registered method's options filled in."""

from typing import Any

from kanoclip.config import Configuration, MethodConfig
from kanoclip.datasets.specs import dataset_names
from kanoclip.methods import method_class, method_names


def configuration_schema() -> dict[str, Any]:
    """The schema, as plain values. Editors read it; a test keeps the committed file equal to it."""
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
    schema["properties"]["methods"]["properties"] = {name: {"$ref": f"#/$defs/method_{name}"} for name in method_names()}
    schema["properties"]["targets"]["items"]["examples"] = dataset_names()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "kanoclip configuration", **schema}
