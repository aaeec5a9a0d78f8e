"""Captions of synthetic images: class, state, defect, colour, place and size in many wordings."""

import numpy as np

from kanoclip.datasets.synthetic.kinds import kind_named
from kanoclip.datasets.synthetic.render import Sample

# The wordings of the states and of the photo templates cover those of the prompt ensembles in use for CLIP.
NORMAL_STATES = (
    "{}",
    "normal {}",
    "good {}",
    "flawless {}",
    "perfect {}",
    "unblemished {}",
    "intact {}",
    "healthy {}",
    "clean {}",
    "{} without flaw",
    "{} without defect",
    "{} without damage",
    "{} without any anomaly",
    "{} in good condition",
    "{} with nothing unusual",
)
ABNORMAL_STATES = (
    "abnormal {}",
    "anomalous {}",
    "defective {}",
    "damaged {}",
    "broken {}",
    "flawed {}",
    "faulty {}",
    "unhealthy {}",
    "{} with flaw",
    "{} with defect",
    "{} with damage",
    "{} with an anomaly",
    "{} in bad condition",
    "{} with something unusual",
)
TEMPLATES = (
    "{}",
    "a {}",
    "the {}",
    "a photo of a {}",
    "a photo of the {}",
    "a photo of one {}",
    "a photo of my {}",
    "a cropped photo of a {}",
    "a close-up photo of the {}",
    "a bright photo of a {}",
    "a dark photo of the {}",
    "a blurry photo of a {}",
    "a jpeg corrupted photo of the {}",
    "a low resolution photo of a {}",
    "a black and white photo of the {}",
    "a bad photo of a {}",
    "a good photo of the {}",
    "a photo of a cool {}",
    "a photo of a small {}",
    "a photo of the large {}",
    "a photo of a {} for visual inspection",
    "a photo of the {} for anomaly detection",
    "there is a {} in the scene",
    "this is the {} in the scene",
    "this is one {} in the scene",
    "an image of a {}",
    "a picture of the {}",
)

# What each defect is called (nouns) and how it looks (the sentences of a knowledge base).
DEFECT_NOUNS: dict[str, tuple[str, ...]] = {
    "scratch": ("scratch", "scuff", "thin line"),
    "crack": ("crack", "fracture", "split"),
    "hole": ("hole", "pit", "puncture"),
    "stain": ("stain", "spot", "smudge"),
    "dent": ("dent", "dip", "bump"),
    "cut": ("cut", "tear", "slit"),
    "contamination": ("contamination", "foreign particle", "dirt"),
    "thread": ("loose thread", "fibre", "hair"),
    "discolouration": ("discolouration", "colour change", "faded area"),
    "abrasion": ("abrasion", "rough patch", "worn area"),
    "broken_pattern": ("broken pattern", "irregular pattern", "interrupted structure"),
    "deformation": ("deformation", "bent area", "distortion"),
    "missing_part": ("missing part", "missing piece", "broken off piece"),
    "misplacement": ("misplaced part", "shifted part", "misalignment"),
    "bright_lesion": ("bright lesion", "bright mass", "tumor"),
    "dark_lesion": ("dark lesion", "dark region", "cyst"),
}
DEFECT_SENTENCES: dict[str, tuple[str, ...]] = {
    "scratch": ("thin lines run across the surface", "the surface is scratched by a sharp edge"),
    "crack": ("a dark jagged line splits the surface", "the material is cracked and has come apart"),
    "hole": ("a dark pit goes through the surface", "material is missing and a hole is open"),
    "stain": ("a spot of another colour covers the surface", "a liquid has left a stain"),
    "dent": ("the surface is pressed in and catches the light", "a dip bends the surface inward"),
    "cut": ("a straight opening is cut into the material", "the surface is torn open"),
    "contamination": ("foreign grains lie on the surface", "dirt sticks to the surface"),
    "thread": ("a loose fibre lies across the surface", "a hair is stuck to it"),
    "discolouration": ("a region has changed its colour", "the colour is uneven and faded"),
    "abrasion": ("a patch is worn and rough", "the surface is rubbed off"),
    "broken_pattern": ("the regular pattern is interrupted", "the structure does not continue"),
    "deformation": ("the shape is bent out of place", "the pattern is pulled aside and distorted"),
    "missing_part": ("a piece is missing from the edge", "a component is absent"),
    "misplacement": ("a component is shifted out of its place", "a part is not aligned"),
    "bright_lesion": ("a region is brighter than the tissue around it", "a bright mass with an uneven edge"),
    "dark_lesion": ("a region is darker than the tissue around it", "a dark area with an uneven edge"),
}
NORMAL_SENTENCES = (
    "the surface is even and complete",
    "the pattern is regular everywhere",
    "all parts are in place",
    "nothing is missing or damaged",
    "the structure is symmetrical and healthy",
)


def caption(sample: Sample, rng: np.random.Generator) -> str:
    """A random caption that is true of an image.

    Args:
        sample: the image; only its attributes are read.
        rng: chooses the wording.

    Returns:
        One lower-case sentence without a final period.
    """
    names = kind_named(sample.kind).names
    thing = names[0] if rng.random() < 0.6 else str(rng.choice(names))
    if rng.random() < 0.3:
        thing = f"{sample.colour} {thing}"
    normal = sample.defect == "good"
    kind_of_caption = rng.random()
    if kind_of_caption < 0.15:
        sentences = NORMAL_SENTENCES if normal else DEFECT_SENTENCES[sample.defect]
        return f"{thing}: {rng.choice(sentences)}"
    if normal or kind_of_caption < 0.55:
        described = str(rng.choice(NORMAL_STATES if normal else ABNORMAL_STATES)).format(thing)
    else:
        described = f"{thing} with a {_described_defect(sample, rng)}"
    return str(rng.choice(TEMPLATES)).format(described)


def _described_defect(sample: Sample, rng: np.random.Generator) -> str:
    """A noun for the defect, sometimes with its size and place."""
    noun = str(rng.choice(DEFECT_NOUNS[sample.defect]))
    if rng.random() < 0.3:
        noun = f"{sample.extent} {noun}"
    if rng.random() < 0.3:
        noun = f"{noun} at the {sample.place}"
    return noun
