"""Branching vessels and airways of the lungs.

A tree reaches random points of a lung by growing each from the nearest part of the tree, near in a sense that
weighs wire length against path length (Cuntz et al. 2010, PLoS Comput Biol 6:e1000877). Radii follow Murray's
law from the number of ends that a branch feeds (Murray 1926, PNAS 12:207).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Tree:
    """Straight tubes.

    Attributes
    ----------
    starts, ends
        (n, 3) as (z, y, x) in mm.
    radii
        (n,) in mm.
    """

    starts: Points
    ends: Points
    radii: NDArray[np.float64]


def grow_tree(
    root: tuple[float, float, float],
    targets: Points,
    end_radius: float,
    rng: np.random.Generator,
    balance: float = 0.35,
) -> Tree:
    """Return a tree from a root to all targets.

    Parameters
    ----------
    root : tuple of float
        (z, y, x) in mm.
    targets : (n, 3)
        Points that the tree reaches.
    end_radius : float
        Radius of its finest branches in mm.
    rng : numpy Generator
        For the bends of branches.
    balance : float
        0 gives the shortest tree, larger values straighter paths from the root.
    """
    order = np.argsort(np.linalg.norm(targets - np.asarray(root), axis=1), kind="stable")
    nodes, parents, paths = [np.asarray(root, dtype=np.float64)], [-1], [0.0]
    for target in targets[order]:
        known = np.asarray(nodes)
        distances = np.linalg.norm(known - target, axis=1)
        parent = int(np.argmin(distances + balance * np.asarray(paths)))
        length = float(distances[parent])
        # A bend half way gives long branches the look of vessels, and later branches a place to start.
        middle = (nodes[parent] + target) / 2 + rng.normal(0, 0.07 * length, 3)
        for point in (middle, target):
            nodes.append(point)
            parents.append(parent)
            paths.append(paths[parent] + length / 2)
            parent = len(nodes) - 1
    feeds = np.ones(len(nodes))
    for child in range(len(nodes) - 1, 0, -1):
        feeds[parents[child]] += feeds[child]
    ends = np.asarray(nodes)[1:]
    starts = np.asarray(nodes)[parents[1:]]
    return Tree(starts, ends, end_radius * (feeds[1:] / 2 + 0.5) ** (1 / 2.75))


def coverage(
    tree: Tree, z: float, y: NDArray[np.float32], x: NDArray[np.float32], widen: float = 0.0
) -> NDArray[np.float32]:
    """Return how much of each pixel of a plane the tubes fill, float32 (rows, columns) in [0, 1].

    Parameters
    ----------
    tree : Tree
    z : float
        Height of the plane.
    y, x : NDArray
        Evenly spaced positions of rows and columns in mm.
    widen : float
        Added to the radii (walls), in mm.
    """
    filled = np.zeros((len(y), len(x)), dtype=np.float32)
    pixel = float(x[1] - x[0])
    radii = tree.radii + widen
    low = np.minimum(tree.starts[:, 0], tree.ends[:, 0]) - radii
    high = np.maximum(tree.starts[:, 0], tree.ends[:, 0]) + radii
    for index in np.flatnonzero((low <= z) & (z <= high)):
        start, end, radius = tree.starts[index], tree.ends[index], float(radii[index])
        along = end - start
        # Only the part of the tube near the plane can meet it.
        if abs(along[0]) > 1e-6:
            bounds = sorted(((z - radius - start[0]) / along[0], (z + radius - start[0]) / along[0]))
            first, last = max(0.0, bounds[0]), min(1.0, bounds[1])
        else:
            first, last = 0.0, 1.0
        corners = np.stack([start + first * along, start + last * along])
        rows = _window(corners[:, 1], radius, y, pixel)
        columns = _window(corners[:, 2], radius, x, pixel)
        if rows.start >= rows.stop or columns.start >= columns.stop:
            continue
        dy, dx = y[rows, None] - start[1], x[None, columns] - start[2]
        dz = z - start[0]
        share = (dz * along[0] + dy * along[1] + dx * along[2]) / max(float(along @ along), 1e-9)
        share = np.clip(share, 0.0, 1.0)
        distance = np.sqrt(
            (dz - share * along[0]) ** 2 + (dy - share * along[1]) ** 2 + (dx - share * along[2]) ** 2
        )
        part = np.clip((radius - distance) / pixel + 0.5, 0.0, 1.0)
        np.maximum(filled[rows, columns], part, out=filled[rows, columns])
    return filled


def _window(ends: NDArray[np.float64], radius: float, axis: NDArray[np.float32], pixel: float) -> slice:
    reach = radius + pixel
    first = int(np.floor((ends.min() - reach - axis[0]) / pixel))
    last = int(np.ceil((ends.max() + reach - axis[0]) / pixel)) + 1
    return slice(max(0, first), min(len(axis), last))
