"""Class names that the text tower learns in addition to those of the generator's kinds, and their codes.

Names of one group lie near each other, synonyms nearer still. The image tower is not trained to distinguish them: they
only make class names in prompts known to the text tower, and keep similar names together.
"""

import numpy as np
from numpy.typing import NDArray

# Group: sets of synonyms, the names of one set separated by commas.
NAMES: dict[str, tuple[str, ...]] = {
    "metal part": (
        "bracket, metal bracket, black bracket, brown bracket, white bracket",
        "tube, tubes, pipe, metal tube",
        "spring, coil, metal spring",
        "key, metal key",
        "coin, medal",
        "bearing, ball bearing, roller",
        "flange, casting, cast part",
        "hinge, latch, lock",
        "nail, rivet, pin, staple",
        "clamp, clip, hook",
        "valve, nozzle, tap",
        "blade, knife, turbine blade",
        "chain, link, belt buckle",
        "weld, weld seam, solder joint",
        "rail, railway track, steel beam",
        "aluminium profile, aluminum sheet, steel strip, strip steel",
        "wheel, rim, brake disc",
        "commutator, electrical commutator, electric motor, rotor",
    ),
    "electronics": (
        "printed circuit board, printed circuit board 1, printed circuit board 2, printed circuit board 3, "
        "printed circuit board 4, circuit",
        "transistor, diode, resistor, capacitor",
        "chip, semiconductor, wafer, silicon wafer",
        "battery, power cell",
        "switch, socket, plug socket",
        "light bulb, lamp, led",
        "monocrystalline solar cell, polycrystalline solar cell, solar panel, photovoltaic module",
        "display, screen, phone",
    ),
    "textile": (
        "woven fabric weave, fabric, cloth, canvas",
        "tartan, plaid, striped cloth",
        "denim, jeans, cotton",
        "lace, ribbon, yarn, rope",
        "zipper, zip fastener",
        "towel, blanket, mat",
        "braided texture, interlaced texture",
    ),
    "surface": (
        "surface, texture, textured surface, material",
        "textured surface 1, textured surface 2, textured surface 3, textured surface 4, textured surface 5, "
        "textured surface 6, textured surface 7, textured surface 8, textured surface 9, textured surface 10",
        "brick wall, brick, wall, masonry",
        "terrazzo, floor, pavement, asphalt, road",
        "perforated sheet, perforated metal, sieve",
        "plaster, painted wall, paint, coating",
        "plastic, plastic sheet, rubber, film",
        "glass, glass pane, window, mirror",
        "ceramic, porcelain, pottery",
        "banded texture, lined texture, striped texture",
        "blotchy texture, stained texture, flecked texture",
        "bubbly texture, porous texture, honeycombed texture",
        "bumpy texture, wrinkled texture, grooved texture",
        "chequered texture, checkered texture, grid texture",
        "cobwebbed texture, crosshatched texture, meshed texture",
        "crystalline texture, marbled texture, veined texture",
        "bark, sand, soil, grass",
    ),
    "food": (
        "hazelnut, nut kernel, walnut, almond, peanut",
        "cashew, cashew nut",
        "macaroni, pasta, macaroni 1, macaroni 2, noodle",
        "fryum, pipe fryum, snack, chips",
        "chewing gum, candy, chocolate",
        "bread, cake, pastry",
        "fruit, apple, orange fruit, banana",
        "rice, grain, seed, bean",
        "meat, fish, egg",
    ),
    "thing": (
        "toothbrush, brush",
        "candle, wax",
        "capsules, tablets, pills, medicine",
        "can, tin, box, carton",
        "cup, mug, bowl, plate",
        "bag, pouch, package, label",
        "pen, pencil, ruler",
        "tool, hammer, wrench, pliers",
        "toy, doll, ball",
        "shoe, glove, hat",
        "book, card, banknote",
        "industrial product, industrial product 1, industrial product 2, industrial product 3, product, item, part",
        "machine, engine, vehicle, car",
        "bottle cap, lid, cap, cork",
        "syringe, needle, vial, ampoule",
    ),
    "medical": (
        "head, skull, head scan slice",
        "chest, chest x-ray, thorax, rib",
        "abdomen, stomach, kidney, spleen",
        "breast, breast us, mammogram",
        "colon, polyp image, endoscopy image",
        "skin, skin lesion photo, mole",
        "heart, blood vessel, artery",
        "bone, knee, hand x-ray, spine",
        "tooth, jaw, dental x-ray",
        "cell, tissue, histology slide, lymph node",
        "thyroid, prostate, uterus",
        "eye, oct scan, fundus, iris",
        "mri, ct, x-ray, scan, slice",
    ),
    "nature": (
        "animal, dog, cat, horse",
        "bird, insect, butterfly, spider",
        "flower, leaf, tree, plant",
        "mountain, sea, sky, landscape",
        "house, bridge, building, church",
    ),
}

SYNONYMS: tuple[tuple[str, ...], ...] = tuple(
    tuple(name.strip() for name in names.split(",")) for group in NAMES.values() for names in group
)
GROUP_SHARE, SET_SHARE = 0.55, 0.55  # lengths of the two parts of a name's vector; a kind's own vector has 0.8


def name_vectors(tables: list[NDArray[np.float32]], seed: int) -> NDArray[np.float32]:
    """Return a vector for every set of SYNONYMS, orthogonal to the vectors of all attributes: (sets, width).

    Args:
        tables: the output of `code_tables`.
        seed: seed of the random directions.
    """
    used = np.concatenate(tables)
    u, scale, _ = np.linalg.svd(used.T, full_matrices=True)
    free = u[:, int((scale > 1e-4).sum()) :]  # (width, free directions)
    random = np.random.default_rng([seed, 7])

    def directions(count: int) -> NDArray[np.float64]:
        drawn = random.standard_normal((count, free.shape[1]))
        return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)

    groups, own = directions(len(NAMES)), directions(len(SYNONYMS))
    group_of_set = np.repeat(np.arange(len(NAMES)), [len(sets) for sets in NAMES.values()])
    return ((GROUP_SHARE * groups[group_of_set] + SET_SHARE * own) @ free.T).astype(np.float32)
