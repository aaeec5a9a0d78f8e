"""The keys of `snakemake pretrain`, which trains the embedded backbone."""

from typing import Any, Literal, get_args

from pydantic import Field, field_validator

from kanoclip.config.strict import Strict
from kanoclip.naming import check_path

PublicPhotographs = Literal["dtd", "imagenet_sample"]
"""The sources in `kanoclip/datasets/public_photographs/`."""


class PretrainingConfig(Strict):
    """How long and on what the embedded backbone is trained. Raise its last steps to continue a finished run."""

    pairs: int = Field(24_000, gt=0, description="number of normal training images, and of anomalous ones")
    text_steps: int = Field(900, gt=0, description="optimiser steps of the text tower")
    small_steps: int = Field(2_000, gt=0, description="steps of the image tower on half-size images, 64 per step")
    large_steps: int = Field(2_000, gt=0, description="steps on whole images, 32 per step")
    mixed_steps: int = Field(
        6_000, ge=0, description="steps on whole images in pairs that are blended and recoloured, 32 per step"
    )
    photographs: str | tuple[PublicPhotographs, ...] | None = Field(
        None,
        description="photographs without defects, into which defects are put: a folder, or a list of public sources "
        "that the workflow downloads, `[dtd, imagenet_sample]`. Without them the last stages see drawn images only",
    )
    composite_pairs: int = Field(12_000, gt=0, description="pairs of composites on the photographs")
    real_small_steps: int = Field(
        0,
        ge=0,
        description="steps on half-size views of drawn pairs and composites, real_batch per step. 0: not part of the "
        "shipped weights; trainings so far ended below their start on held-out images",
    )
    real_large_steps: int = Field(
        0, ge=0, description="steps on whole images, half of real_batch per step. 0 for the same reason"
    )
    real_batch: int = Field(64, gt=0, multiple_of=16, description="images per step; a GPU can take more")
    final_steps: int = Field(
        0,
        ge=0,
        description="last of all, steps on whole images whose defects are easy to see at first; needs photographs",
    )
    final_batch: int = Field(32, gt=0, multiple_of=16, description="images per final step")
    start: Literal["nothing", "embedded"] = Field(
        "nothing",
        description="embedded: continue from the weights in the package with the last stages only, those with "
        "photographs, instead of training everything",
    )
    validation_pairs: int = Field(336, gt=0, description="approximate number of pairs in each validation set")
    processes: int = Field(1, gt=0, description="processes that draw images in parallel")
    seed: int = Field(0, ge=0, description="random seed of the batches and the initial weights")

    @field_validator("photographs", mode="before")
    @classmethod
    def _a_folder_or_public_sources(cls, value: Any) -> Any:
        """Check both forms here: an error of a union would name its members, not the key."""
        if value is None:
            return None
        if isinstance(value, str):
            return check_path(value)
        known = get_args(PublicPhotographs)
        if not isinstance(value, list | tuple) or not value or not set(map(str, value)) <= set(known):
            raise ValueError(f"expected a folder, or a list of public sources ({', '.join(known)})")
        return tuple(dict.fromkeys(value))

    @property
    def public_photographs(self) -> tuple[PublicPhotographs, ...]:
        """The public sources of photographs; empty if there is a folder or nothing."""
        return self.photographs if isinstance(self.photographs, tuple) else ()

    @property
    def own_steps(self) -> int:
        """Steps of the image tower before the final ones."""
        drawn = self.small_steps + self.large_steps + self.mixed_steps if self.start == "nothing" else 0
        return drawn + self.real_small_steps + self.real_large_steps
