"""Registries of kinds (with their names and defects) and defects, and those held out of pretraining."""

from collections.abc import Callable
from dataclasses import dataclass

from kanoclip.datasets.synthetic import auxiliary, defects, objects, scans, textures
from kanoclip.datasets.synthetic.canvas import Array, Canvas, Scene
from kanoclip.types import unknown_name


@dataclass(frozen=True)
class Kind:
    """A class of images.

    Attributes:
        draw: draws one normal image.
        names: common names; prompts use the first.
        defects: the defects that can occur on it, keys of DEFECTS.
    """

    draw: Callable[[Canvas], Scene]
    names: tuple[str, ...]
    defects: tuple[str, ...]


DEFECTS: dict[str, Callable[[Canvas, Scene, float], Array]] = {
    "scratch": defects.scratch,
    "crack": defects.crack,
    "hole": defects.hole,
    "stain": defects.stain,
    "dent": defects.dent,
    "cut": defects.cut,
    "contamination": defects.contamination,
    "thread": defects.thread,
    "discolouration": defects.discolouration,
    "abrasion": defects.abrasion,
    "broken_pattern": defects.broken_pattern,
    "deformation": defects.deformation,
    "missing_part": defects.missing_part,
    "misplacement": defects.misplacement,
    "bright_lesion": defects.bright_lesion,
    "dark_lesion": defects.dark_lesion,
}

_ANY = ("stain", "contamination", "thread", "discolouration")
_CLOTH = (*_ANY, "hole", "cut", "abrasion", "deformation")
_PATTERNED_CLOTH = (*_CLOTH, "broken_pattern")
_HARD = (*_ANY, "scratch", "crack", "hole", "dent", "abrasion")
_PART = (*_ANY, "scratch", "crack", "dent", "abrasion", "missing_part", "deformation")
_ASSEMBLY = (*_ANY, "scratch", "missing_part", "misplacement")
_SCAN = ("bright_lesion", "dark_lesion")

KINDS: dict[str, Kind] = {
    "weave": Kind(textures.weave, ("woven fabric", "weave", "textile"), _PATTERNED_CLOTH),
    "knit": Kind(textures.knit, ("knitted fabric", "knitwear", "wool"), _PATTERNED_CLOTH),
    "mesh": Kind(textures.mesh, ("wire mesh", "grid", "metal grid"), (*_ANY, "cut", "deformation", "broken_pattern")),
    "wood": Kind(textures.wood, ("wood", "wooden board", "timber"), (*_HARD, "cut", "broken_pattern")),
    "granite": Kind(textures.granite, ("granite", "stone", "rock"), _HARD),
    "leather": Kind(textures.leather, ("leather", "hide"), (*_HARD, "cut", "deformation")),
    "brushed_metal": Kind(textures.brushed_metal, ("brushed metal", "metal plate", "steel sheet"), _HARD),
    "tile": Kind(textures.tile, ("tile", "ceramic tile"), (*_HARD, "broken_pattern")),
    "carpet": Kind(textures.carpet, ("carpet", "rug"), _CLOTH),
    "paper": Kind(textures.paper, ("paper", "cardboard"), (*_CLOTH, "scratch")),
    "concrete": Kind(textures.concrete, ("concrete", "cement", "concrete wall"), (*_HARD, "bright_lesion")),
    "marble": Kind(textures.marble, ("marble", "polished stone"), (*_HARD, "broken_pattern")),
    "foam": Kind(textures.foam, ("foam", "sponge"), (*_CLOTH, "dark_lesion")),
    "corrugated": Kind(
        textures.corrugated, ("corrugated sheet", "ribbed panel"), (*_HARD, "deformation", "broken_pattern")
    ),
    "printed_cloth": Kind(textures.printed_cloth, ("printed cloth", "patterned cloth"), _PATTERNED_CLOTH),
    "cast_surface": Kind(
        textures.cast_surface, ("cast surface", "magnetic tile", "rough surface"), (*_HARD, "dark_lesion")
    ),
    "washer": Kind(objects.washer, ("washer", "metal ring", "ring"), _PART),
    "bottle": Kind(objects.bottle, ("bottle", "glass bottle"), _PART),
    "bar": Kind(objects.bar, ("metal bar", "rod", "shaft"), _PART),
    "screw": Kind(objects.screw, ("screw", "bolt"), _PART),
    "nut": Kind(objects.nut, ("metal nut", "hex nut"), _PART),
    "gear": Kind(objects.gear, ("gear", "cog wheel"), _PART),
    "pill": Kind(objects.pill, ("pill", "tablet"), _PART),
    "capsule": Kind(objects.capsule, ("capsule", "medicine capsule"), _PART),
    "button": Kind(objects.button, ("button", "coat button"), _PART),
    "biscuit": Kind(objects.biscuit, ("biscuit", "cookie"), _PART),
    "cable": Kind(objects.cable, ("cable", "wire cross-section"), _ASSEMBLY),
    "board": Kind(objects.board, ("circuit board", "pcb", "electronic board"), _ASSEMBLY),
    "connector": Kind(objects.connector, ("connector", "plug"), _ASSEMBLY),
    "brain": Kind(scans.brain, ("brain scan", "brain", "head scan", "head ct"), _SCAN),
    "lung": Kind(scans.lung, ("chest scan", "lung"), _SCAN),
    "liver": Kind(scans.liver, ("abdomen scan", "liver"), _SCAN),
    "ultrasound": Kind(scans.ultrasound, ("ultrasound scan", "breast ultrasound"), _SCAN),
    "retina": Kind(scans.retina, ("retina", "eye scan"), _SCAN),
    "solar_cell": Kind(
        scans.solar_cell, ("solar cell", "photovoltaic cell"), ("crack", "scratch", "dark_lesion", "broken_pattern")
    ),
}

# Used only by the auxiliary dataset. Not among KINDS, so pretraining never draws them.
AUXILIARY_KINDS: dict[str, Kind] = {
    "brick": Kind(auxiliary.brick, ("brick wall",), (*_HARD, "broken_pattern")),
    "perforated": Kind(auxiliary.perforated, ("perforated sheet",), (*_HARD, "deformation", "broken_pattern")),
    "terrazzo": Kind(auxiliary.terrazzo, ("terrazzo",), _HARD),
    "tartan": Kind(auxiliary.tartan, ("tartan",), _PATTERNED_CLOTH),
    "coin": Kind(auxiliary.coin, ("coin",), _PART),
    "key": Kind(auxiliary.key, ("key",), _PART),
    "spring": Kind(auxiliary.spring, ("spring",), _PART),
    "bulb": Kind(auxiliary.bulb, ("light bulb",), _PART),
}

# Never seen in pretraining: validation uses them, and the synthetic target dataset consists of them.
HELD_OUT_KINDS = ("concrete", "printed_cloth", "tile", "capsule", "gear", "connector", "lung")
HELD_OUT_DEFECTS = ("dent", "thread")
TRAINING_KINDS = tuple(kind for kind in KINDS if kind not in HELD_OUT_KINDS)
TRAINING_DEFECTS = tuple(defect for defect in DEFECTS if defect not in HELD_OUT_DEFECTS)


def kind_named(kind: str) -> Kind:
    """Return the kind of a name.

    Raises:
        InputError: there is no such kind; the message names the nearest one.
    """
    known = {**KINDS, **AUXILIARY_KINDS}
    if kind not in known:
        raise unknown_name("synthetic kind", kind, known)
    return known[kind]


def defects_of(kind: str) -> tuple[str, ...]:
    """Return the defects that can occur on a kind."""
    return kind_named(kind).defects


def display_name(kind: str) -> str:
    """Return the name of a kind in prompts, e.g. "metal nut"."""
    return kind_named(kind).names[0]
