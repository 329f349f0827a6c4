"""The generated layers by loops in float64, and random cases for them."""

from __future__ import annotations

import numpy as np
import torch

from pipeline_lib.networks.head_parameters import parameter_count


def naive_layers(features, parameters, maps):
    """One sample, one head and one voxel at a time, in float64: B 8 D H W, B N P → B N maps D H W."""
    B, N, _ = parameters.shape
    shape = features.shape[2:]
    logits = np.empty((B, N, maps, *shape))
    for b in range(B):
        for n in range(N):
            rest = list(parameters[b, n])

            def take(*size, rest=rest):
                count = int(np.prod(size))
                taken, rest[:] = rest[:count], rest[count:]
                return np.array(taken).reshape(size)

            layers = [(take(8, 8), take(8)), (take(8, 8), take(8)), (take(maps, 8), take(maps))]
            assert not rest
            for voxel in np.ndindex(shape):
                values = features[(b, slice(None), *voxel)]
                for weights, biases in layers[:-1]:
                    values = np.maximum(weights @ values + biases, 0)
                logits[(b, n, slice(None), *voxel)] = layers[-1][0] @ values + layers[-1][1]
    return logits


def random_case(seed, B, N, maps, shape, dtype=torch.float64):
    rng = np.random.default_rng(seed)
    features = torch.tensor(rng.normal(size=(B, 8, *shape)), dtype=dtype)
    parameters = torch.tensor(rng.normal(size=(B, N, parameter_count(maps))), dtype=dtype)
    return features, parameters
