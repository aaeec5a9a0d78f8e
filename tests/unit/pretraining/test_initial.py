import numpy as np
import torch

from kanoclip.backbones.clip import load_backbone
from kanoclip.config import BackboneConfig
from kanoclip.datasets.synthetic import render
from kanoclip.pretraining.initial import initialise, pixels, sincos_positions, whitening_filters

IMAGES = np.stack([render(kind, None, seed, size=64).image for kind in ("wood", "screw", "board") for seed in range(4)])


def test_pixels_equal_the_preprocessing_of_the_model():
    backbone = load_backbone(BackboneConfig(model="kanoclip-tiny", weights="random:0", image_size=64))
    assert torch.allclose(pixels(IMAGES), backbone.normalise(IMAGES), atol=1e-5)


def test_outputs_of_whitening_filters_are_uncorrelated_with_a_deviation_of_at_most_1():
    images = pixels(IMAGES)
    answers = torch.nn.functional.conv2d(images, whitening_filters(images, 8, 16), stride=8)
    covariance = torch.cov(answers.transpose(0, 1).flatten(1))
    assert torch.allclose(covariance, torch.diag(covariance.diagonal()), atol=1e-2)
    assert (covariance.diagonal() > 0.3).all() and (covariance.diagonal() <= 1.001).all()


def test_embeddings_of_near_positions_are_more_similar_than_of_far_ones():
    positions = torch.nn.functional.normalize(sincos_positions(8, 64), dim=1)
    similarity = positions @ positions.T
    assert torch.unique(positions, dim=0).shape[0] == 64
    assert similarity[0, 1] > similarity[0, 7] and similarity[0, 8] > similarity[0, 56]


def test_mimetic_attention_initially_attends_to_similar_tokens():
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
