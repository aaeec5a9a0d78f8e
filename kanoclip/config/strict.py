"""The base of all groups of keys, and the check of values against one with an error message of one line."""

import difflib
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from kanoclip.naming import printable
from kanoclip.types import InputError

Model = TypeVar("Model", bound=BaseModel)


class Strict(BaseModel):
    """A group of keys that refuses unknown keys and cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)


def parse(model: type[Model], values: Mapping[str, Any], where: str) -> Model:
    """Validate values against a model.

    Args:
        model: the group of keys.
        values: as read from YAML or the command line.
        where: what the values belong to, for the message.

    Raises:
        InputError: the first problem in one line; a misspelt key names the nearest valid one.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problem = error.errors()[0]
        place = printable(".".join(str(part) for part in problem["loc"] if part != "[key]"))
        if problem["type"] == "extra_forbidden":
            raise InputError(f"{where}: unknown key '{place}'; {_nearest_key(model, problem['loc'])}") from None
        message = printable(problem["msg"], 500).removeprefix("Value error, ")
        if not place:  # of several keys together: the message names them and what was found
            raise InputError(f"{where}: {message}") from None
        found = "" if problem["type"] == "missing" else f", found {printable(repr(problem['input']))}"
        raise InputError(f"{where}: '{place}': {message[0].lower()}{message[1:]}{found}") from None


def with_nulls(values: Any) -> Any:
    """Return values with None for the text "null", which is how Snakemake passes a null inside a value of `--config`.

    >>> with_nulls({"datasets": {"elpv": {"limit": "null"}}, "seeds": [1]})
    {'datasets': {'elpv': {'limit': None}}, 'seeds': [1]}
    """
    if isinstance(values, Mapping):
        return {key: with_nulls(value) for key, value in values.items()}
    if isinstance(values, list):
        return [with_nulls(value) for value in values]
    return None if values == "null" else values


def _nearest_key(model: type[BaseModel], location: tuple[int | str, ...]) -> str:
    """Return a hint for the last part of a location: the nearest key of its group."""
    for part in location[:-1]:
        field = model.model_fields.get(str(part))
        if field is None:  # a name that the user chose (a dataset, a backbone): the group stays
            continue
        nested = [field.annotation, *getattr(field.annotation, "__args__", ())]
        model = next((kind for kind in nested if isinstance(kind, type) and issubclass(kind, BaseModel)), model)
    close = difflib.get_close_matches(str(location[-1]), model.model_fields, n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else f"known keys: {', '.join(model.model_fields)}"
