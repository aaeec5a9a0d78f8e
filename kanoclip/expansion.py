"""From a configuration to a run, without importing torch for configurations that are known."""

from typing import Any

from kanoclip.caching import remembered
from kanoclip.code import digest, installed
from kanoclip.config import Configuration
from kanoclip.run import Run
from kanoclip.store import fingerprint


def expand(config: Configuration) -> Run:
    """Expand a configuration into a run, and check it. Known configurations are not expanded again.

    What a configuration means follows from the code of `kanoclip.protocol` and of all methods, which import torch; so
    the result is kept in the user's cache folder until the configuration or that code changes.

    Raises:
        InputError: whatever is wrong with the configuration.
    """

    def compute() -> Any:
        from kanoclip.protocol import describe

        return describe(config).model_dump(mode="json")

    code = digest("kanoclip.protocol", *installed().methods.values())
    key = fingerprint(configuration=config.model_dump(mode="json"), code=code)
    return Run.model_validate(remembered("runs", key, compute))
