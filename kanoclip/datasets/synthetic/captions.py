"""Captions of synthetic images: class, state, defect, colour, place and size in many wordings."""

import re
from dataclasses import dataclass, replace

import numpy as np

from kanoclip.datasets.synthetic.kinds import kind_named
from kanoclip.datasets.synthetic.render import Facts

# The wordings of states and photo templates include those of common CLIP prompt ensembles.
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

# Names of each defect, and sentences that describe it, as in a knowledge base.
DEFECT_NOUNS: dict[str, tuple[str, ...]] = {
    "scratch": ("scratch", "scuff", "thin line", "scrape", "scratched surface"),
    "crack": ("crack", "fracture", "split", "fissure", "cracked surface"),
    "hole": ("hole", "pit", "puncture", "pore", "poke"),
    "stain": ("stain", "spot", "smudge", "oil stain", "rust stain"),
    "dent": ("dent", "dip", "bump", "squeezed area"),
    "cut": ("cut", "tear", "slit", "open seam"),
    "contamination": ("contamination", "foreign particle", "foreign object", "dirt particle", "glue residue"),
    "thread": ("loose thread", "fibre", "hair", "lint"),
    "discolouration": ("discolouration", "colour change", "color defect", "faded area", "burn mark"),
    "abrasion": ("abrasion", "rough patch", "worn area", "frayed area", "corroded area"),
    "broken_pattern": ("broken pattern", "irregular pattern", "interrupted structure", "structural defect"),
    "deformation": ("deformation", "bent area", "distortion", "warped area", "bent part"),
    "missing_part": ("missing part", "missing piece", "broken off piece", "chipped edge", "missing component"),
    "misplacement": ("misplaced part", "shifted part", "misalignment", "swapped part"),
    "bright_lesion": ("bright lesion", "bright mass", "tumor", "hemorrhage", "malignant mass"),
    "dark_lesion": ("dark lesion", "dark region", "cyst", "dark mass", "hypoechoic lesion"),
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


WRONG_ARTICLE = re.compile(r"\ba (?=[aeiou])")


@dataclass(frozen=True)
class Caption:
    """A text and the attributes that it mentions.

    Attributes:
        text: one lower-case sentence without a final period.
        name: the wording of the class in it.
        facts: the attributes that it mentions; the others are empty. The state is always mentioned: `facts.defect` is
            "good" for a normal state, a key of DEFECTS if the defect is named, and empty for an unspecified defect.
    """

    text: str
    name: str
    facts: Facts


def describe(facts: Facts, rng: np.random.Generator) -> Caption:
    """Return a random caption that is true of an image.

    Args:
        facts: facts of the image; a `Sample` has them.
        rng: chooses the wording and the attributes to mention.
    """
    names = kind_named(facts.kind).names
    name = names[0] if rng.random() < 0.6 else str(rng.choice(names))
    coloured = rng.random() < 0.3
    thing = f"{facts.colour} {name}" if coloured else name
    said = Facts(kind=facts.kind, defect="", colour=facts.colour if coloured else "")
    form = rng.random()
    if facts.defect == "good":
        said = replace(said, defect="good")
        if form < 0.15:
            return Caption(f"{thing}: {rng.choice(NORMAL_SENTENCES)}", name, said)
        return Caption(_photo(str(rng.choice(NORMAL_STATES)).format(thing), rng), name, said)
    if form < 0.4:
        return Caption(_photo(str(rng.choice(ABNORMAL_STATES)).format(thing), rng), name, said)
    said = replace(said, defect=facts.defect)
    if form < 0.6:
        return Caption(f"{thing}: {rng.choice(DEFECT_SENTENCES[facts.defect])}", name, said)
    noun = str(rng.choice(DEFECT_NOUNS[facts.defect]))
    if rng.random() < 0.3:
        noun, said = f"{facts.extent} {noun}", replace(said, extent=facts.extent)
    if rng.random() < 0.3:
        noun, said = f"{noun} at the {facts.place}", replace(said, place=facts.place)
    return Caption(_photo(f"{thing} with a {noun}", rng), name, said)


def _photo(described: str, rng: np.random.Generator) -> str:
    """Fill in a photo template, with the article sometimes corrected and sometimes as the template has it."""
    text = str(rng.choice(TEMPLATES)).format(described)
    return WRONG_ARTICLE.sub("an ", text) if rng.random() < 0.5 else text
