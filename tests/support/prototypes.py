"""LTUDA's second stage, a voxel at a time, in float64."""

from __future__ import annotations

import math

import numpy as np


def naive_head(head, features, banks):
    """Embeddings, cosines and scores from the parameters of a `PrototypeHead`."""
    weights = {name: value.detach().numpy() for name, value in head.state_dict().items()}

    def unit(vector):
        return vector / math.sqrt(sum(vector**2))

    def normed(vector, name):
        spread = math.sqrt(sum((vector - vector.mean()) ** 2) / len(vector) + 1e-5)
        return (vector - vector.mean()) / spread * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    hidden = [weights["projection.0.weight"] @ row for row in features.detach().numpy()]
    mean = sum(hidden) / len(hidden)
    variance = sum((row - mean) ** 2 for row in hidden) / len(hidden)
    embeddings = []
    for row in hidden:
        row = (row - mean) / np.sqrt(variance + 1e-5) * weights["projection.1.weight"] + weights["projection.1.bias"]
        projected = weights["projection.3.weight"] @ np.maximum(row, 0) + weights["projection.3.bias"]
        embeddings.append(unit(normed(unit(projected), "embedding_norm")))
    cosines = [[[[e @ p for p in own] for own in bank] for e in embeddings] for bank in banks.numpy()]
    scores = [[normed(np.array([max(own) for own in voxel]), "score_norm") for voxel in bank] for bank in cosines]
    return np.array(embeddings), np.array(cosines), np.array(scores)


def naive_shares(cosines, classes):
    """Sinkhorn's iterations of each class alone, with the constants of the publication."""
    found = np.zeros((len(classes), cosines.shape[2]))
    for k in set(classes):
        voxels = [n for n, own in enumerate(classes) if own == k]
        count = cosines.shape[2]
        q = [[math.exp(cosines[n, k, p] / 0.05) for p in range(count)] for n in voxels]
        total = sum(map(sum, q))
        q = [[value / total for value in row] for row in q]
        for _ in range(3):
            sums = [sum(row[p] for row in q) for p in range(count)]
            q = [[value / sums[p] / count for p, value in enumerate(row)] for row in q]
            q = [[value / sum(row) / len(voxels) for value in row] for row in q]
        for n, row in zip(voxels, q, strict=True):
            found[n] = [value * len(voxels) for value in row]
    return found


def naive_class_loss(scores, k):
    """What a voxel of class k costs whose scores are L."""
    return math.log(sum(map(math.exp, scores))) - scores[k]


def naive_prototype_loss(cosines, prototype):
    """What it costs a member that belongs to a `prototype` of all, by its cosines L P."""
    of_all = [value for own in cosines for value in own]
    among_all = math.log(sum(map(math.exp, of_all))) - of_all[prototype]
    return 0.01 * among_all + 0.001 * (1 - of_all[prototype]) ** 2


def naive_moved(bank, embeddings, prototypes, decay):
    """The bank L P E after a step."""
    found = np.array(bank, copy=True)
    for k, p in np.ndindex(*bank.shape[:2]):
        own = [e for e, number in zip(embeddings, prototypes, strict=True) if number == k * bank.shape[1] + p]
        if own:
            mean = sum(own) / len(own)
            vector = decay * found[k, p] + (1 - decay) * mean / np.linalg.norm(mean)
            found[k, p] = vector / np.linalg.norm(vector)
    return found
