"""What all figures have in common: no display, one style, one way to be written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covid_ct_mask_net.errors import OutputError, UsageError

# Colour-blind safe (Okabe and Ito): Control, Common Pneumonia, COVID-19; GGO, consolidation.
CLASS_COLOURS = ("#0072B2", "#E69F00", "#D55E00")
LESION_COLOURS = {1: "#56B4E9", 2: "#E69F00"}
NOTICE = "Research use only. Not a medical device."
_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.h_pad": 0.08,
}
_DPI = 150


@contextmanager
def drawn(path: Path, rows: int, columns: int, width: float, height: float, **options: Any) -> Iterator[Any]:
    """Yield the axes (rows, columns) of a figure that is written as PNG when the block ends.

    Parameters
    ----------
    path : pathlib.Path
        File to write, whole or not at all.
    rows, columns : int
    width, height : float
        Of the figure, in inches.
    **options
        For ``matplotlib.pyplot.subplots``.
    """
    figure_class = _figure_class()
    from matplotlib import rc_context

    with rc_context(_STYLE):
        figure = figure_class(figsize=(width, height))
        axes = figure.subplots(rows, columns, squeeze=False, **options)
        yield axes
        figure.supxlabel(NOTICE, fontsize=6, color="0.45")
        partial = path.with_name(f".{path.stem}.partial.png")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # No date inside: the same run gives the same bytes.
            figure.savefig(partial, dpi=_DPI, metadata={"Software": None})
            os.replace(partial, path)  # noqa: PTH105
        except OSError as error:
            raise OutputError(
                "FIGURE_NOT_WRITTEN", f"{path} could not be written: {error.strerror}."
            ) from error


def show_slice(axis: Any, image: NDArray[np.uint8], title: str = "") -> None:
    """Draw a slice (H, W) without frame."""
    axis.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axis.set_axis_off()
    if title:
        axis.set_title(title, fontsize=8)


def tint(axis: Any, mask: NDArray[np.bool_], colour: str, opacity: float = 0.45) -> None:
    """Lay a colour over the pixels of a mask (H, W), with an outline."""
    from matplotlib.colors import to_rgba

    layer = np.zeros((*mask.shape, 4))
    layer[mask] = to_rgba(colour, opacity)
    axis.imshow(layer, interpolation="nearest")
    if mask.any() and not mask.all():
        axis.contour(mask, levels=[0.5], colors=[colour], linewidths=0.7)


def _figure_class() -> Any:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError(
            "NO_MATPLOTLIB",
            "Figures need matplotlib, which is not installed; install it, or use --no-figures.",
        ) from error

    def make(**options: Any) -> Figure:
        figure = Figure(**options)
        FigureCanvasAgg(figure)
        return figure

    return make
