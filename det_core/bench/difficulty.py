"""How hard a motion is: the number of groups its trajectories fall into.      (DeT, arXiv 2503.17350, MTBench)"""

from __future__ import annotations

import torch

from ..tracking.tracks import Tracks

MOST_CLUSTERS = 12
STRUCTURE = 0.25  # a lower silhouette is no evidence of groups (Kaufman and Rousseeuw 1990, table 2.4)
RESTARTS, ITERATIONS = 8, 50


def level(clusters: int) -> str:
    """1-3 groups are "easy", 4-6 "medium", 7 and more "hard", as in MTBench."""
    return "easy" if clusters <= 3 else "medium" if clusters <= 6 else "hard"


def count_clusters(tracks: Tracks, seed: int = 0) -> int:
    """The number of k-means groups (2 to 12) with the best mean silhouette; 1 where none has structure.

    Trajectories are compared whole: each is one vector of its positions over all frames. The paper gives neither the
    range of k nor the rule for a single group; these are ours.
    """
    vectors = tracks.points.double().flatten(1)
    distances = torch.cdist(vectors, vectors, compute_mode="donot_use_mm_for_euclid_dist")
    best, found = STRUCTURE, 1
    for k in range(2, min(MOST_CLUSTERS, len(vectors) - 1) + 1):
        labels = kmeans(vectors, k, torch.Generator().manual_seed(seed))
        score = silhouette(distances, labels)
        if score > best:
            best, found = score, k
    return found


def kmeans(vectors: torch.Tensor, k: int, generator: torch.Generator) -> torch.Tensor:
    """Labels (N,) of vectors (N, D): Lloyd's algorithm from k-means++ starts, the best of several by inertia."""
    best, labels = torch.inf, torch.zeros(len(vectors), dtype=torch.long)
    for _ in range(RESTARTS):
        centres = _spread_start(vectors, k, generator)
        for _ in range(ITERATIONS):
            nearest = torch.cdist(vectors, centres).argmin(1)
            members = torch.nn.functional.one_hot(nearest, k).to(vectors.dtype)
            count = members.sum(0)[:, None]
            moved = torch.where(count > 0, members.T @ vectors / count.clamp_min(1), centres)
            if torch.equal(moved, centres):
                break
            centres = moved
        inertia = (vectors - centres[nearest]).square().sum().item()
        if inertia < best:
            best, labels = inertia, nearest
    return labels


def silhouette(distances: torch.Tensor, labels: torch.Tensor) -> float:
    """Mean silhouette in [-1, 1] of labels (N,) under distances (N, N); a point alone in its group counts 0.

    (Rousseeuw 1987: (b - a) / max(a, b), a the mean distance to the own group, b the least mean distance to another.)
    """
    groups = labels.unique()
    if len(groups) < 2:
        return -1.0
    members = (labels[:, None] == groups[None]).to(distances.dtype)  # (N, K)
    size = members.sum(0)
    total = distances @ members
    own = members.bool()
    within = total[own] / (size[None].expand_as(total)[own] - 1).clamp_min(1)
    between = torch.where(own, torch.inf, total / size).amin(1)
    score = (between - within) / torch.maximum(between, within).clamp_min(1e-12)
    alone = size[None].expand_as(total)[own] == 1
    return torch.where(alone, 0.0, score).mean().item()


def _spread_start(vectors: torch.Tensor, k: int, generator: torch.Generator) -> torch.Tensor:
    chosen = [int(torch.randint(len(vectors), (), generator=generator))]
    while len(chosen) < k:
        nearest = torch.cdist(vectors, vectors[chosen]).amin(1).square()
        if nearest.sum() == 0:  # fewer distinct vectors than groups
            nearest = torch.ones_like(nearest)
        chosen.append(int(torch.multinomial(nearest, 1, generator=generator)))
    return vectors[chosen].clone()
