from __future__ import annotations

import numpy as np

from builders.result_set import made


def test_pictures_of_a_study_are_the_key_images() -> None:
    one = made()
    pixels = [one.read(f"sc-{number}.dcm").pixel_array for number in (1, 2)]
    assert pixels[0].shape == pixels[1].shape
    assert not np.array_equal(*pixels)
