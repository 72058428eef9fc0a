from __future__ import annotations

import numpy as np

from builders.result_set import made


def test_key_images_are_colour_pictures_of_their_sources() -> None:
    one = made()
    for number in (1, 2):
        picture = one.read(f"sc-{number}.dcm")
        pixels = picture.pixel_array
        assert picture.PhotometricInterpretation == "RGB"
        # PS3.3 C.7.6.1.1: YES would mean that the patient can be told from the picture.
        assert picture.BurnedInAnnotation == "NO"
        assert pixels.ndim == 3
        assert int(picture.InstanceNumber) == number
        # Outlines have colour; the slice under them has none.
        colourful = np.ptp(pixels.astype(int), axis=2) > 40
        assert 0.0005 < colourful.mean() < 0.5
