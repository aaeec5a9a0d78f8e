import numpy as np
import pytest
from PIL import Image

from kanoclip.datasets.synthetic import DEFECTS, HELD_OUT_DEFECTS, render
from kanoclip.datasets.synthetic.canvas import Canvas, Scene
from kanoclip.pretraining.codes import COLOUR, DEFECT, KIND, NOTHING, STATE, UNKNOWN
from kanoclip.pretraining.composites import Composites, composite_corpus
from kanoclip.pretraining.corpus import numbers_of
from kanoclip.pretraining.harmless import CHANGES
from kanoclip.pretraining.makers import HELD_OUT_MAKERS, MAKERS, TRAINING_MAKERS, makers_for
from kanoclip.pretraining.photographs import name_from_file, read_photographs, split
from kanoclip.pretraining.surfaces import crop_side, scene
from kanoclip.types import InputError

SIZE = 64


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Write drawn images under the names of real photographs."""
    root = tmp_path_factory.mktemp("photographs")
    for number in range(3):
        for kind, name in (
            ("granite", f"bumpy/bumpy_{number}.jpg"),
            ("bottle", f"objects/n0144000{number}_sea_lion.png"),
        ):
            path = root / name
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(render(kind, None, number, 160).image).save(path)
    return root


@pytest.fixture(scope="module")
def composites(folder):
    return Composites(read_photographs(folder), TRAINING_MAKERS, seed=3, size=SIZE)


@pytest.fixture(scope="module")
def pairs(composites):
    return [composites.pair(number) for number in range(60)]


def test_a_defect_changes_nothing_outside_its_mask(pairs):
    spoilt = [pair for pair in pairs if pair.facts[1].defect != "good"]
    assert len(spoilt) > 40
    for pair in spoilt:
        first, second = pair.images
        assert np.array_equal(first[~pair.mask], second[~pair.mask])
        assert (first[pair.mask] != second[pair.mask]).any()
        assert 0.001 <= pair.mask.mean() <= 0.4


def test_harmless_changes_have_empty_masks(pairs):
    harmless = [pair for pair in pairs if pair.facts[1].defect == "good"]
    assert 2 <= len(harmless) <= 20
    assert not any(pair.mask.any() for pair in harmless)
    assert any((pair.images[0] != pair.images[1]).mean() > 0.3 for pair in harmless)


def test_a_pair_depends_only_on_its_number_and_neighbours_share_a_photograph(composites, pairs):
    again = composites.pair(7)
    assert np.array_equal(again.images[1], pairs[7].images[1]) and again.facts == pairs[7].facts
    assert not np.array_equal(pairs[6].images[0], pairs[7].images[0])
    assert all(pairs[n].facts[0].kind == pairs[n + 1].facts[0].kind for n in range(0, 60, 2))


@pytest.mark.parametrize("cut_out", [False, True])
@pytest.mark.parametrize("name", list(MAKERS))
def test_every_defect_generator_changes_a_scene_that_it_supports(folder, name, cut_out):
    photo = read_photographs(folder)[0].read()
    changed = []
    for seed in range(4):
        c = Canvas(np.random.default_rng(seed), SIZE)
        normal = scene(photo, crop_side(photo, c), cut_out, c)
        if name not in makers_for(normal, tuple(MAKERS)):
            assert name == "missing_part" and not cut_out
            return
        image = MAKERS[name](c, normal, np.ones_like(normal.image) * 0.5, 1.0)
        assert image.shape == (SIZE, SIZE, 3) and np.isfinite(image).all()
        changed.append(np.abs(image - normal.image).max())
    assert max(changed) > 0.05


@pytest.mark.parametrize("name", list(CHANGES))
def test_every_harmless_change_keeps_the_shape(name):
    c = Canvas(np.random.default_rng(0), SIZE)
    image, other = (np.full((SIZE, SIZE, 3), value, np.float32) for value in (0.3, 0.8))
    changed = CHANGES[name](c, image, other)
    assert changed.shape == image.shape and np.isfinite(changed).all()


def test_cut_out_scenes_show_their_background_outside(folder):
    photo = read_photographs(folder)[0].read()
    for seed in range(30):
        c = Canvas(np.random.default_rng(seed), SIZE)
        normal = scene(photo, crop_side(photo, c), True, c)
        assert isinstance(normal, Scene)
        assert np.array_equal(normal.image[normal.inside == 0], normal.behind[normal.inside == 0])
        assert 0.01 < (normal.inside > 0.9).mean() < 0.95


def test_held_out_defect_generators_are_not_used_in_training():
    assert not set(HELD_OUT_MAKERS) & set(TRAINING_MAKERS)
    assert set(HELD_OUT_DEFECTS) < set(HELD_OUT_MAKERS) < set(MAKERS)
    assert set(DEFECTS) - set(MAKERS) == {"misplacement"}


def test_only_the_state_and_a_generators_defect_are_known_of_a_composite(pairs):
    for pair in pairs:
        normal, second = (numbers_of(facts) for facts in pair.facts)
        assert normal[STATE] == 0 and normal[DEFECT] == NOTHING
        assert normal[KIND] == normal[COLOUR] == UNKNOWN
        name = pair.facts[1].defect
        assert second[STATE] == (name != "good")
        if name in DEFECTS:
            assert second[DEFECT] == list(DEFECTS).index(name)
        elif name != "good":
            assert second[DEFECT] == UNKNOWN


def test_the_corpus_does_not_depend_on_the_number_of_processes(folder, tmp_path):
    photographs = read_photographs(folder)
    one = composite_corpus(tmp_path / "one", photographs, TRAINING_MAKERS, 4, 0, processes=1)
    two = composite_corpus(tmp_path / "two", photographs, TRAINING_MAKERS, 4, 0, processes=2)
    assert np.array_equal(one.images, two.images) and np.array_equal(one.masks, two.masks) and one.facts == two.facts


def test_names_of_photographs_come_from_the_files_or_the_manifest(folder, tmp_path):
    assert [(photo.name, photo.texture) for photo in read_photographs(folder)][::3] == [
        ("bumpy texture", True),
        ("sea lion", False),
    ]
    assert name_from_file(folder / "n01440764_great_white-shark.JPEG") == "great white shark"
    (folder / "manifest.csv").write_text("image,name,source\nbumpy/bumpy_1.jpg,gravel texture,dtd\n")
    assert read_photographs(folder)[1].name == "gravel texture"
    with pytest.raises(InputError, match="expected a folder of photographs"):
        read_photographs(tmp_path / "none")
    with pytest.raises(InputError, match="images, found none"):
        read_photographs(tmp_path)


def test_held_out_photographs_are_chosen_by_their_names(folder):
    photographs = read_photographs(folder)
    training, held_out = split(photographs)
    assert sorted([*training, *held_out], key=lambda photo: photo.path) == photographs
    assert split(photographs[::-1])[1] == held_out[::-1]
