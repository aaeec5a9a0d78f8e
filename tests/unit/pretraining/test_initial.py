import numpy as np
import torch

from kanoclip.backbones.clip import load_backbone
from kanoclip.config import BackboneConfig
from kanoclip.datasets.synthetic import render
from kanoclip.pretraining.initial import initialise, pixels, sincos_positions, whitening_filters

IMAGES = np.stack([render(kind, None, seed, size=64).image for kind in ("wood", "screw", "board") for seed in range(4)])


def test_pixels_are_those_of_the_models_own_preprocessing():
    backbone = load_backbone(BackboneConfig(model="kanoclip-tiny", weights="random:0", image_size=64))
    assert torch.allclose(pixels(IMAGES), backbone.normalise(IMAGES), atol=1e-5)


def test_whitening_filters_answer_with_uncorrelated_values_of_at_most_unit_deviation():
    images = pixels(IMAGES)
    answers = torch.nn.functional.conv2d(images, whitening_filters(images, 8, 16), stride=8)
    covariance = torch.cov(answers.transpose(0, 1).flatten(1))
    assert torch.allclose(covariance, torch.diag(covariance.diagonal()), atol=1e-2)
    assert (covariance.diagonal() > 0.3).all() and (covariance.diagonal() <= 1.001).all()


def test_near_positions_are_more_alike_than_far_ones():
    positions = torch.nn.functional.normalize(sincos_positions(8, 64), dim=1)
    similarity = positions @ positions.T
    assert torch.unique(positions, dim=0).shape[0] == 64
    assert similarity[0, 1] > similarity[0, 7] and similarity[0, 8] > similarity[0, 56]


def test_mimetic_attention_starts_with_tokens_attending_to_their_like():
    backbone = load_backbone(BackboneConfig(model="kanoclip-tiny", weights="random:0", image_size=64))
    initialise(backbone, IMAGES, seed=0)
    for block in backbone.blocks:
        width, weight = backbone.width, block.attn.in_proj_weight
        for head in range(4):
            rows = slice(head * 32, (head + 1) * 32)
            product = weight[:width][rows].T @ weight[width : 2 * width][rows]
            assert product.diagonal().mean() > 0.1
        value_output = block.attn.out_proj.weight @ weight[2 * width :]
        assert -0.7 < value_output.diagonal().mean() < -0.2
