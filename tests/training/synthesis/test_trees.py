from __future__ import annotations

import numpy as np

from covid_ct_mask_net.training.synthesis.trees import Tree, coverage, grow_tree


def test_tree_reaches_all_targets_from_its_root() -> None:
    rng = np.random.default_rng(0)
    targets = rng.uniform(-50, 50, (40, 3))
    tree = grow_tree((0.0, 0.0, 0.0), targets, 0.5, rng)
    ends = {tuple(np.round(end, 6)) for end in tree.ends}
    assert {tuple(np.round(target, 6)) for target in targets} <= ends
    # Each tube starts where another ends, or at the root.
    assert {tuple(np.round(s, 6)) for s in tree.starts} <= ends | {(0.0, 0.0, 0.0)}


def test_trunks_are_thicker_than_twigs() -> None:
    rng = np.random.default_rng(0)
    tree = grow_tree((0.0, 0.0, 0.0), rng.uniform(20, 80, (60, 3)), 0.5, rng)
    assert tree.radii[0] > 2.5 * tree.radii.min()
    assert np.isclose(tree.radii.min(), 0.5, atol=0.1)


def test_coverage_of_a_tube_is_its_section() -> None:
    axis = np.arange(-20, 20, 0.5, dtype=np.float32)
    upright = Tree(np.array([[-10.0, 0, 0]]), np.array([[10.0, 0, 0]]), np.array([4.0]))
    area = coverage(upright, 0.0, axis, axis).sum() * 0.25
    assert np.isclose(area, np.pi * 16, rtol=0.03)
    assert coverage(upright, 20.0, axis, axis).sum() == 0
    assert np.isclose(coverage(upright, 0.0, axis, axis, widen=1.0).sum() * 0.25, np.pi * 25, rtol=0.03)


def test_coverage_of_a_tube_in_the_plane_is_a_band() -> None:
    axis = np.arange(-20, 20, 0.5, dtype=np.float32)
    flat = Tree(np.array([[0.0, 0, -10]]), np.array([[0.0, 0, 10]]), np.array([2.0]))
    assert np.isclose(coverage(flat, 0.0, axis, axis).sum() * 0.25, 20 * 4 + np.pi * 4, rtol=0.05)
