"""The options of AA-CLIP."""

from typing import Literal

from pydantic import Field

from kanoclip.methods.layerwise import LayerwiseOptions
from kanoclip.methods.phases import Schedule


class AaClipOptions(LayerwiseOptions):
    """Options of AA-CLIP. The inherited ones, epochs to warm_up_steps, are for its image phase."""

    learning_rate: float = Field(5e-4, gt=0, description="learning rate of Adam in the image phase (released code)")
    milestones: tuple[int, ...] = Field(
        (),
        description="steps of the image phase at which its learning rate is halved; they replace the schedule. The "
        "released code: 16000 and 32000",
    )
    text_epochs: int = Field(5, gt=0, description="passes over the auxiliary dataset in the text phase (released code)")
    text_batch_size: int = Field(16, gt=0, description="images per step of the text phase (released code)")
    text_learning_rate: float = Field(1e-5, gt=0, description="learning rate of Adam in the text phase (released code)")
    residual: float = Field(
        0.1, ge=0, le=1, description="lambda, weight of an adapter's output beside the token itself (released code)"
    )
    orthogonality: float = Field(
        0.1, ge=0, description="gamma, weight of the squared similarity of the two text anchors (released code)"
    )
    surgery: Literal["value_value", "value"] = Field(
        "value_value",
        description="attention of the frozen image tower in the text phase from block vv_start on: V-V among the "
        "patches of an image, as the paper means; or each token's own value, which the released code computes "
        "for a batch of one image",
    )
    geometric: float = Field(
        0.5,
        ge=0,
        le=1,
        description="probability of each of rotation, translation and the two flips, in both phases (released code); "
        "above 0, a training encodes its images again in each epoch",
    )
    colour: float = Field(
        0.0, ge=0, le=1, description="probability of colour jitter in the image phase. The released code: 0.7"
    )
    grid_sigma: float = Field(
        1.0,
        ge=0,
        description="Gaussian of the map, in patches (released code: 1 for industrial targets, 1.5 for medical ones)",
    )
    image_score: Literal["mean", "maximum"] = Field(
        "mean",
        description="mean of the map's maximum and the detection head's score; or the maximum alone, as the released "
        "code does for medical targets",
    )
    normalisation: Literal["image", "class"] = Field(
        "image",
        description="how maps and detection scores are scaled before their mean. image: a softmax over one "
        "image. class: minimum and maximum over all images of the class in the target, as the released code; such a "
        "row is transductive and marked in every table",
    )

    @property
    def image_schedule(self) -> Schedule:
        """The learning-rate schedule of the image phase."""
        if self.milestones:
            return Schedule("steps", self.warm_up_steps, self.milestones)
        return Schedule(self.schedule, self.warm_up_steps)
