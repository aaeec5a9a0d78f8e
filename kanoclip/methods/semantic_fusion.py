"""Hybrid semantic fusion of AdaCLIP (Cao et al. 2024, section 3.4): one feature of an image's most anomalous patches.

This follows the released code, which its authors call more stable than the procedure in their paper. k-means uses the
same seed for each image, so the feature depends only on the image.
"""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor


def fused_feature(levels: Tensor, abnormal: Tensor, patches: int, clusters: int) -> Tensor:
    """Cluster the most anomalous patches and average the cluster centres, so that all clusters have equal weight.

    Patches are clustered by the concatenated vectors of all levels. A centre is the mean over the patches of a cluster
    and over the levels. Gradients pass through the vectors, not through the cluster assignment.

    Args:
        levels: (B, K, P, C) unit vectors of the patches at K levels.
        abnormal: (B, P) anomaly of each patch; only the order matters.
        patches: number of patches to use; all if the grid has fewer.
        clusters: number of k-means clusters; at most the number of distinct patches.

    Returns:
        (B, C) unit vectors.
    """
    best = abnormal.topk(min(patches, abnormal.shape[1]), dim=1).indices  # (B, n)
    rows = torch.arange(len(levels), device=levels.device)[:, None]
    chosen = levels.transpose(1, 2)[rows, best]  # (B, n, K, C)
    shares = [cluster_shares(image, clusters) for image in chosen.detach().flatten(2).cpu().numpy()]
    weights = torch.from_numpy(np.stack(shares)).to(chosen)  # (B, n)
    return F.normalize(torch.einsum("bn,bnc->bc", weights, chosen.mean(2)), dim=1)


def cluster_shares(vectors: NDArray[np.float32], clusters: int) -> NDArray[np.float32]:
    """Return the weights (n,), with sum 1, of vectors (n, D) in the mean of their cluster centres."""
    from sklearn.cluster import KMeans  # imported here because it takes as long as importing all methods

    count = min(clusters, len(np.unique(vectors, axis=0)))
    labels = KMeans(count, n_init=1, random_state=0).fit_predict(vectors)
    sizes = np.bincount(labels, minlength=count)
    return (1 / (sizes[labels] * np.count_nonzero(sizes))).astype(np.float32)
