"""An image and its attribution as an overlay."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from alexnet_jax.report.figures.canvas import INK, label, save_png

OPACITY = 0.6


def draw(image: np.ndarray, values: np.ndarray, titles: tuple[str, str], path: Path) -> None:
    """Draws path.png.

    Args:
      image: uint8 [size, size, 3].
      values: [size, size]; with negative values, red is above 0 and blue below.
      titles: of the image, and of the attribution.
    """
    figure = Figure(figsize=(7.2, 3.4), layout='constrained')
    axes = figure.subplots(1, 2)
    axes[0].imshow(image)
    axes[1].imshow(image.mean(axis=-1), cmap='gray', vmin=0, vmax=255)
    largest = float(np.abs(values).max()) or 1.0
    signed = bool((values < 0).any())
    colors = axes[1].imshow(
        values,
        cmap='RdBu_r' if signed else 'inferno',
        vmin=-largest if signed else 0,
        vmax=largest,
        alpha=OPACITY,
    )
    for part, title in zip(axes, titles, strict=True):
        part.set_title(label(title), fontsize=9, color=INK[0])
        part.axis('off')
    figure.colorbar(colors, ax=axes[1], shrink=0.8)
    save_png(figure, path)
