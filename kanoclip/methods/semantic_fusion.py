"""Hybrid semantic fusion of AdaCLIP (Cao et al. 2024, section 3.4): one feature of an image's most anomalous patches.

The released code is followed; its authors say that it is steadier than what their paper describes. k-means of each
image starts from the same seed, so an image's feature depends on nothing but the image.
"""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor


def fused_feature(levels: Tensor, abnormal: Tensor, patches: int, clusters: int) -> Tensor:
    """Cluster the most anomalous patches and average the clusters' centres, so that each cluster counts the same.

    Patches are clustered by the vectors of all levels, one after another. A centre is the mean over the patches of a
    cluster and over the levels. Gradients pass through the vectors, not through who belongs to which cluster.

    Args:
        levels: (B, K, P, C) unit vectors of the patches at K levels.
        abnormal: (B, P) how anomalous each patch is; only the order counts.
        patches: how many are taken; all of them where the grid has fewer.
        clusters: of k-means; as many as there are different patches where these are fewer.

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
    """Return the weight of each vector in the mean of the centres of its clusters: (n, D) to (n,) with sum 1."""
    from sklearn.cluster import KMeans  # here: its import takes as long as that of all methods together

    count = min(clusters, len(np.unique(vectors, axis=0)))
    labels = KMeans(count, n_init=1, random_state=0).fit_predict(vectors)
    sizes = np.bincount(labels, minlength=count)
    return (1 / (sizes[labels] * np.count_nonzero(sizes))).astype(np.float32)
