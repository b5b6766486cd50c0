"""How hard a motion is: the number of groups its trajectories fall into.      (DeT, arXiv 2503.17350, MTBench)"""

from __future__ import annotations

import numpy as np

from ..tracking.tracks import Tracks

MOST_CLUSTERS = 12
STRUCTURE = 0.25  # a lower silhouette is no evidence of groups (Kaufman and Rousseeuw 1990, table 2.4)
RESTARTS = 20


def level(clusters: int) -> str:
    """1-3 groups are "easy", 4-6 "medium", 7 and more "hard", as in MTBench."""
    return "easy" if clusters <= 3 else "medium" if clusters <= 6 else "hard"


def count_clusters(tracks: Tracks, seed: int = 0) -> int:
    """The number of k-means groups (2 to 12) with the best mean silhouette; 1 where none has structure.

    Trajectories are compared whole: each is one vector of its positions over all frames. The paper gives neither the
    range of k nor the rule for a single group; these are ours.
    """
    from sklearn.cluster import KMeans
    from sklearn.metrics import silhouette_score

    vectors = tracks.points.double().flatten(1).numpy()
    most = min(MOST_CLUSTERS, len(vectors) - 1, len(np.unique(vectors, axis=0)))
    best, found = STRUCTURE, 1
    for k in range(2, most + 1):
        score = silhouette_score(vectors, KMeans(k, n_init=RESTARTS, random_state=seed).fit_predict(vectors))
        if score > best:
            best, found = score, k
    return found
