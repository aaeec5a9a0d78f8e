import numpy as np
import pytest

from kanoclip.datasets.synthetic import Facts
from kanoclip.pretraining.codes import ATTRIBUTES, NOTHING, STATE, UNKNOWN, attributes, code_tables, codes, truth

GOOD = Facts(kind="screw", defect="good", colour="grey")
CRACKED = Facts(kind="screw", defect="crack", colour="grey", place="top", extent="small")


def test_attributes_are_positions_in_the_lists_of_values():
    numbers = attributes(CRACKED)
    named = {
        name: values[number]
        for number, (name, (values, _)) in zip(numbers, ATTRIBUTES.items(), strict=True)
        if number >= 0
    }
    assert named == {
        "state": "abnormal",
        "kind": "screw",
        "defect": "crack",
        "colour": "grey",
        "place": "top",
        "extent": "small",
    }
    assert list(attributes(GOOD)[[2, 4, 5]]) == [NOTHING] * 3


def test_values_are_orthogonal_and_states_are_opposite():
    tables = code_tables(128, seed=3)
    rows = np.concatenate([tables[STATE][:1], *tables[1:]])
    gram = rows @ rows.T
    assert np.allclose(gram, np.diag(np.diag(gram)), atol=1e-5)
    assert np.array_equal(tables[STATE][1], -tables[STATE][0])
    lengths = [np.linalg.norm(table, axis=1) for table in tables]
    for length, (_, share) in zip(lengths, ATTRIBUTES.values(), strict=True):
        assert np.allclose(length, share, atol=1e-5)


def test_the_cosine_of_two_codes_follows_from_their_shared_attributes():
    tables = code_tables(128, seed=0)
    other_state, same = codes(np.stack([attributes(GOOD), attributes(GOOD)]), tables)
    assert np.isclose(other_state @ same, 1)
    flipped = attributes(GOOD)
    flipped[STATE] = 1
    shares = {name: share for name, (_, share) in ATTRIBUTES.items()}
    squared = {name: shares[name] ** 2 for name in ("state", "kind", "colour")}
    expected = (-squared["state"] + squared["kind"] + squared["colour"]) / sum(squared.values())
    assert np.isclose(codes(flipped[None], tables)[0] @ same, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("caption", "is_true"),
    [
        (Facts(kind="screw", defect="crack", colour=""), True),
        (Facts(kind="screw", defect="", colour=""), True),  # abnormal, with an unknown defect
        (Facts(kind="screw", defect="good", colour=""), False),
        (Facts(kind="nut", defect="crack", colour=""), False),
        (Facts(kind="screw", defect="crack", colour="red"), False),
        (Facts(kind="screw", defect="crack", colour="", place="bottom"), False),
    ],
)
def test_a_caption_is_true_if_every_mentioned_fact_is_true(caption, is_true):
    true, known = truth(attributes(CRACKED)[None], attributes(caption)[None])
    assert known.all() and bool(true[0, 0]) is is_true


def test_a_caption_with_unknown_facts_is_false_only_if_another_fact_is_false():
    image = attributes(CRACKED)
    image[4] = UNKNOWN
    captions = [
        Facts(kind="screw", defect="crack", colour="", place="top"),
        Facts(kind="nut", defect="crack", colour="", place="top"),
        Facts(kind="screw", defect="crack", colour=""),
    ]
    true, known = truth(image[None], np.stack([attributes(caption) for caption in captions]))
    assert true.tolist() == [[False, False, True]] and known.tolist() == [[False, True, True]]
