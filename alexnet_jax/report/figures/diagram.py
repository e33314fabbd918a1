"""A drawing of a net as in the paper's Figure 2: a row for each layer, columns side by side."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

from alexnet_jax.network.diff import stage_text
from alexnet_jax.network.layers import Architecture, Conv, Layer
from alexnet_jax.network.shapes import LayerShape, layer_shapes
from alexnet_jax.report.figures.canvas import (
    BLUE,
    FAINT,
    INK,
    MUTED,
    ORANGE,
    PAPER,
    canvas,
    save,
    write_numbers,
)

ROW, BOX = 1.0, 0.66  # heights of a row and of its box; the total width is 1
GAP = 0.04  # between two columns


def draw(net: Architecture, classes: int, path: Path) -> None:
    """Draws path.png and path.svg.

    Writes the shape of every activation, and the parameters and multiply-adds of every layer, to
    path.csv.
    """
    shapes = layer_shapes(net, classes)
    write_numbers(
        path,
        ('layer', 'activation', 'shape', 'parameters', 'multiply_adds'),
        [
            (row.name, name, '×'.join(map(str, shape)), row.parameters, row.multiply_adds)
            for row in shapes
            for name, shape in row.activations.items()
        ],
    )
    count = len(net.layers) + 2
    figure, ((axes,),) = canvas(height=0.8 * count)
    axes.set(xlim=(0, 1), ylim=(-ROW * (count - 1) - BOX - 0.05, 0.05))
    axes.axis('off')
    size = net.input_size
    _box(axes, 0.3, 0.7, 0, (f'image\n{size}×{size}×3', ''), FAINT[0])
    for number, (layer, shape) in enumerate(zip(net.layers, shapes, strict=False), start=1):
        _arrows(axes, net, number, layer)
        for column, (left, right) in enumerate(_edges(net.columns)):
            edge = (BLUE, ORANGE)[column % 2][0]
            texts = _layer_text(layer, shape, net.columns), _stages_text(layer, shape)
            _box(axes, left, right, number, texts, edge)
    last = count - 1
    for left, right in _edges(net.columns):
        _arrow(axes, (left + right) / 2, 0.5, last, crossing=net.columns > 1)
    text = f'{net.output.name}: {classes} class{"es" * (classes != 1)}\nsoftmax'
    _box(axes, 0.3, 0.7, last, (text, ''), FAINT[0])
    save(figure, path)


def described(net: Architecture, classes: int) -> str:
    """Describes the drawing in words, for those who cannot see it."""
    columns = f'{net.columns} column{"s" * (net.columns > 1)}'
    layers = ', '.join(
        f'{layer.name} {"×".join(map(str, shape.output))}'
        for layer, shape in zip(net.layers, layer_shapes(net, classes), strict=False)
    )
    joined = [row.name for row in net.layers[1:] if row.reads_all] if net.columns > 1 else []
    where = (
        f'; the columns meet at {", ".join([*joined, net.output.name])}' if net.columns > 1 else ''
    )
    return f'Diagram of {net.name}: {columns}; {layers}, then {classes} classes{where}.'


def _edges(columns: int) -> list[tuple[float, float]]:
    """Returns the left and right edge of each column."""
    return [(GAP / 2 + i / columns, (i + 1) / columns - GAP / 2) for i in range(columns)]


def _box(
    axes: Axes, left: float, right: float, row: int, texts: tuple[str, str], edge: str
) -> None:
    """Draws a box with two texts: the layer, and its stages in smaller letters."""
    bottom = -ROW * row - BOX
    shape = FancyBboxPatch(
        (left, bottom), right - left, BOX, boxstyle='round,pad=0,rounding_size=0.02',
        mutation_aspect=6, edgecolor=edge, facecolor=PAPER[0], linewidth=1.4,
    )  # fmt: skip
    axes.add_patch(shape)
    middle, then = (left + right) / 2, texts[1]
    height = BOX * (0.64 if then else 0.5)
    axes.text(
        middle, bottom + height, texts[0], ha='center', va='center', fontsize=8.5, color=INK[0]
    )
    axes.text(middle, bottom + 0.13, then, ha='center', va='center', fontsize=7, color=MUTED[0])


def _arrows(axes: Axes, net: Architecture, row: int, layer: Layer) -> None:
    """Draws arrows from the columns that each column of the layer reads."""
    middles = [(left + right) / 2 for left, right in _edges(net.columns)]
    for middle in middles:
        if row == 1:
            _arrow(axes, 0.5, middle, row, crossing=False)
            continue
        for other in middles if layer.reads_all else [middle]:
            _arrow(axes, other, middle, row, crossing=other != middle)


def _arrow(axes: Axes, start: float, end: float, row: int, crossing: bool) -> None:
    top = -ROW * row + (ROW - BOX)
    axes.annotate(
        '', (end, -ROW * row + 0.01), (start, top),
        arrowprops={'arrowstyle': '->', 'color': (INK if crossing else MUTED)[0],
                    'linewidth': 1.3 if crossing else 0.8, 'shrinkA': 0, 'shrinkB': 0},
    )  # fmt: skip


def _layer_text(layer: Layer, shape: LayerShape, columns: int) -> str:
    *positions, features = shape.activations[layer.name]
    own = features // columns
    if not isinstance(layer, Conv):
        return f'{layer.name}\n{own} units'
    stride = f', stride {layer.stride}' if layer.stride > 1 else ''
    side = layer.kernel
    return f'{layer.name}: {side}×{side}{stride}\n{"×".join(map(str, positions))}×{own}'


def _stages_text(layer: Layer, shape: LayerShape) -> str:
    """Returns the stages after the layer and the size of their output."""
    text = ' → '.join(stage_text(stage).split(' (')[0] for stage in layer.then)
    if shape.output[:-1] != shape.activations[layer.name][:-1]:
        text += f' → {"×".join(map(str, shape.output[:-1]))}'
    return text
