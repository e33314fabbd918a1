"""Model card: README.md with the metadata of the Hugging Face Hub.

Text from outside is escaped: by `_text` for Markdown, by PyYAML for the metadata.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import yaml

from alexnet_jax.data.own_source import is_own
from alexnet_jax.evaluation.tally import has_top5
from alexnet_jax.experiment import config as configuration
from alexnet_jax.experiment import results
from alexnet_jax.experiment.identity import WEIGHTS
from alexnet_jax.experiment.model import Model
from alexnet_jax.experiment.settings import RATES, SETTINGS, as_text, normalized
from alexnet_jax.network.architectures import PAPER
from alexnet_jax.network.diff import deviations, stages_text
from alexnet_jax.network.layers import Layer
from alexnet_jax.network.shapes import layer_shapes
from alexnet_jax.runtime.errors import counted, plain
from alexnet_jax.weights.arrays import shortest
from alexnet_jax.weights.published import MODEL_FILE, REMOTE, public

Result = Mapping[str, Any]

MOST_CLASSES = 20  # named classes
LONGEST = 100  # characters of a text from outside
SIGNS = re.compile(r'[]!"#$%&*+<=>?@[\\^_`{|}~]|(?<=www)[.]|:(?=//)', re.IGNORECASE)
# Names on the Hub of sets of TFDS.
HUB_NAMES = {
    'cifar10': 'uoft-cs/cifar10',
    'cifar100': 'uoft-cs/cifar100',
    'fashion_mnist': 'zalando-datasets/fashion_mnist',
    'imagenet2012': 'ILSVRC/imagenet-1k',
    'mnist': 'ylecun/mnist',
}
RECIPE = (
    'data.batch_size', 'optimizer.learning_rate', 'optimizer.momentum', 'optimizer.weight_decay',
    RATES, 'data.random_crop', 'data.mirror', 'data.color_std',
    'network.compute', 'network.precision', 'seed',
)  # fmt: skip
RESIZED = {
    'center_square': "The central square is resized to {0}×{0} pixels with Pillow's bicubic filter:"
    ' `image.resize(({0}, {0}), Image.Resampling.BICUBIC, box=square)`.',
    'short_side': 'The shorter side is resized to {0} pixels and the longer in proportion, rounded'
    " down, with Pillow's bilinear filter (torchvision's `Resize({0})`); of that the middle {0}×{0}"
    ' pixels are kept, from round((side − {0}) / 2) on.',
    'squash': "The whole image, whatever its shape, is resized to {0}×{0} pixels by OpenCV's bilinear"
    ' interpolation: `cv2.resize(image, ({0}, {0}), interpolation=cv2.INTER_LINEAR)`.',
}
LIMITATIONS = (
    'The net assigns every image to one of its classes, even an image of another class. Its'
    ' probabilities are not meaningful for images unlike its training images. A result is for images'
    ' like those of its split, and for one training: another seed gives another error.'
)
CITATION = """```bibtex
@inproceedings{krizhevsky2012imagenet,
  title     = {ImageNet Classification with Deep Convolutional Neural Networks},
  author    = {Krizhevsky, Alex and Sutskever, Ilya and Hinton, Geoffrey E.},
  booktitle = {Advances in Neural Information Processing Systems 25},
  pages     = {1097--1105},
  year      = {2012}
}
```"""


def model_card(
    model: Model, source: str, place: str, found: Sequence[Result] = (), license: str = ''
) -> str:
    """Returns the text of README.md.

    Args:
      source: `data.source` without paths of this machine.
      place: hf:OWNER/NAME, or a word for the folder that holds the card.
      found: results of exactly this model on splits of its own set, as `results.own`.
      license: license of the weights; '' for none.
    """
    net = model.net.architecture
    name = plain(place.rpartition('/')[2] if place.startswith(REMOTE) else net.name, LONGEST)
    held_out = [result for result in found if result['split'] != 'train']
    tree = metadata(name, source, is_trained_here(model), held_out)
    if license:
        tree['license'] = license
    if (donor := model.config.start['from']).startswith(REMOTE):
        tree['base_model'] = donor.removeprefix(REMOTE)
    sections = {
        'Net': _net(model),
        'Training': _training(model, source),
        'Results': _results(held_out),
        'Preprocessing': _preprocessing(model),
        'Classes': _classes(model),
        'Use': _use(model, place),
        'Limitations': [LIMITATIONS],
        'Citation': [CITATION],
    }
    lines = ['---', yaml.safe_dump(tree, sort_keys=False, allow_unicode=True) + '---']
    lines += ['', f'# {_text(name)}']
    for title, section in sections.items():
        lines += ['', f'## {title}', '', *section] if section else []
    return '\n'.join([*lines, ''])


def is_trained_here(model: Model) -> bool:
    """Returns whether a model's configuration describes how it was trained.

    It does not for another program's weights without further training: only their digest is known.
    """
    return model.step > 0 or any(name != WEIGHTS for name in model.data)


def metadata(
    name: str, source: str, is_trained_on: bool, found: Sequence[Result]
) -> dict[str, Any]:
    """Returns the metadata for the Hub.

    Args:
      name: of the model.
      source: of the images.
      is_trained_on: whether the model was trained on them.
      found: results on held-out images.
    """
    of_set, hub_name = _dataset(source)
    tree: dict[str, Any] = {
        'library_name': 'alexnet_jax',
        'pipeline_tag': 'image-classification',
        'tags': ['alexnet', 'jax', 'flax'],
    }
    if is_trained_on and hub_name in HUB_NAMES.values():
        tree['datasets'] = [hub_name]
    if found:
        tree['metrics'] = ['accuracy']
        rows = [
            {
                'task': {'type': 'image-classification', 'name': 'Image Classification'},
                'dataset': {'name': of_set, 'type': hub_name, 'split': result['split']},
                'metrics': _accuracies(result),
            }
            for result in found
        ]
        tree['model-index'] = [{'name': name, 'results': rows}]
    return tree


def _dataset(source: str) -> tuple[str, str]:
    """Returns a readable name of a set, and its name on the Hub or, without one, the kind of the
    set.
    """
    kind, _, rest = plain(source, LONGEST).partition(':')
    if is_own(source):
        return plain(source, LONGEST), 'custom'
    if kind == 'folder':
        return rest, 'imagefolder'
    builder = re.split('[/:]', rest)[0]
    return rest or kind, HUB_NAMES.get(builder, builder or kind)


def _accuracies(result: Result) -> list[dict[str, Any]]:
    """Returns the metrics of the Hub: accuracy is 1 − error."""
    return [
        {
            'type': 'accuracy',
            'value': round(1 - result[f'top{k}_error'], 6),
            'name': f'Top-{k} accuracy ({results.views_text(result)})',
        }
        for k in (1, 5)
        if k == 1 or has_top5(result)
    ]


def _net(model: Model) -> list[str]:
    net = model.net.architecture
    rows = layer_shapes(net, len(model.classes))
    statistics = sum(row.statistics for row in rows)
    moving = f' and {statistics:,} moving statistics' if statistics else ''
    others = deviations(net, PAPER)
    lines = [
        f'The net {_text(net.name)} of [AlexNet](https://papers.nips.cc/paper/4824)'
        ' (Krizhevsky, Sutskever and Hinton, 2012) in JAX and Flax:'
        f' {counted(net.columns, "column")}, images of {net.input_size}×{net.input_size} pixels,'
        f' {counted(len(model.classes), "class", "classes")},'
        f' {sum(row.parameters for row in rows):,} parameters{moving}.',
        '',
        *_table(
            ('layer', 'output', 'parameters', 'after the weighted sums'),
            (
                (
                    _text(row.name),
                    '×'.join(map(str, shape.output)),
                    f'{shape.parameters:,}',
                    _text(stages_text(row)) if isinstance(row, Layer) else 'softmax',
                )
                for row, shape in zip((*net.layers, net.output), rows, strict=True)
            ),
        ),
        '',
    ]
    if not others:
        return [*lines, 'It is the net of the paper (§3.5), with its initial values (§5).']
    return [
        *lines,
        f'<details><summary>What differs from the net of the paper (§3.5):'
        f' {counted(len(others), "field")}</summary>',
        '',
        *_table(
            ('field', 'this net', 'the paper'),
            ((_text(row.field), _text(row.one), _text(row.other)) for row in others),
        ),
        '',
        '</details>',
    ]


def _training(model: Model, source: str) -> list[str]:
    if not is_trained_here(model):
        return ['The weights were imported. Their file states no training images and no recipe.']
    config = configuration.changed(model.config, {'data.mirror': model.mirrored})
    splits = model.data.get('splits', '')
    protocol = configuration.base_protocol(config)
    images = re.search(r'\btrain (\d+)', splits)
    epochs = (
        f', {model.step * config.data.batch_size / int(images[1]):.4g} epochs' if images else ''
    )
    start, layers = config.start['from'], ', '.join(config.start.layers) or 'weights'
    donor = _text(public(start)) or 'another model'
    is_begun = start or model.data.keys() == {WEIGHTS}
    begun = ['', f'Training began with {layers} of {donor}.'] * bool(is_begun)
    return [
        f'Images: {_text(source)}{f" ({_text(splits)})" if splits else ""}.'
        f' Recipe: {_text(protocol.name)} ({_text(protocol.source)}),'
        f' {counted(model.step, "step")}{epochs}, {protocol.loss} loss.',
        *begun,
        '',
        *_table(
            ('setting', 'value', 'meaning'),
            (
                (f'`{name}`', as_text(name, normalized(name, config[name])), SETTINGS[name].meaning)
                for name in RECIPE
                if config[name] or name != RATES
            ),
        ),
    ]


def _results(found: Sequence[Result]) -> list[str]:
    if not found:
        return []
    names = ('split', 'views', 'images', 'top-1 error', 'top-1 accuracy', 'top-5 error',
             'top-5 accuracy')  # fmt: skip
    rows = [
        (
            result['split'],
            results.views_text(result),
            f'{result["examples"]:,}',
            *_error_and_accuracy(result, 1),
            *(_error_and_accuracy(result, 5) if has_top5(result) else ('–', '–')),
        )
        for result in found
    ]
    return [
        *_table(names, rows),
        '',
        'In brackets: 95 % intervals by Wilson, for images drawn like these. Accuracy is 1 − error.',
    ]


def _error_and_accuracy(result: Result, k: int) -> tuple[str, str]:
    error, (low, high) = result[f'top{k}_error'], result[f'top{k}_interval']
    return f'{error:.4f} [{low:.4f}, {high:.4f}]', f'{1 - error:.4f}'


def _preprocessing(model: Model) -> list[str]:
    size, side = model.net.architecture.input_size, model.config.data.record_size
    if model.mean.shape == (3,):
        mean = f'`mean = [{_numbers(model.mean)}]`'
    else:
        mean = (
            f'the mean image, the array `normalization/mean` [{size}, {size}, 3] of `{MODEL_FILE}`'
        )
    return [
        '`model.read` does steps 1 to 3, the model step 4. Without this package:',
        '',
        '1. Decode the image to 8-bit RGB, upright as its EXIF orientation says. What is transparent'
        ' becomes white.',
        f'2. {RESIZED[model.config.data.resize].format(side)}',
        f'3. Keep the middle {size}×{size} pixels, from row and column {(side - size) // 2} on.',
        f'4. On the scale of 0 to 255, in float32, subtract {mean}, and divide by'
        f' `scale = [{_numbers(model.scale)}]`, one number for each of red, green and blue.',
        '',
        f'The net takes [batch, {size}, {size}, 3]: rows, columns, channels.',
    ]


def _classes(model: Model) -> list[str]:
    names = [f'{label}: {_text(name)}' for label, name in enumerate(model.names[:MOST_CLASSES])]
    more = len(model.classes) - len(names)
    rest = ['', f'... and {more} more: `model.names` has all.'] if more else []
    return ['In the order of the logits:', '', *(f'- {name}' for name in names), *rest]


def _use(model: Model, place: str) -> list[str]:
    remote, place = place.startswith(REMOTE), plain(place)
    needs = (
        'the package `alexnet_jax` with its extra `hub`' if remote else 'the package `alexnet_jax`'
    )
    where = place if remote else MODEL_FILE
    hidden = layer_shapes(model.net.architecture, len(model.classes))[-2].activations
    layer = [name for name in hidden if not name.endswith('/dropout')][-1]
    return [
        f'With {needs}{"" if remote else ", in the folder of this file"}:',
        '',
        '```python',
        'from alexnet_jax import load',
        '',
        f'model = load({where!r})',
        "logits, activations = model(model.read('image.png'))",
        'print(model.names[int(logits[0].argmax())])',
        f"features = model.features(['image.png'], [{layer!r}])",
        '```',
        '',
        'Or from the command line:',
        '',
        '```bash',
        f'alexnet-jax weights pull {place} --workdir DIR',
        'alexnet-jax predict --workdir DIR IMAGE',
        '```',
    ]


def _table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Returns the lines of a Markdown table; cells are Markdown."""
    return [
        f'| {" | ".join(names)} |',
        f'|{"---|" * len(names)}',
        *(f'| {" | ".join(row)} |' for row in rows),
    ]


def _numbers(values: np.ndarray) -> str:
    return ', '.join(map(str, shortest(values)))


def _text(text: str) -> str:
    """Returns a text from outside for Markdown, on one line: Markdown and HTML syntax, URLs and
    e-mail addresses are escaped, and long texts are truncated.
    """
    return SIGNS.sub(r'\\\g<0>', plain(text, LONGEST))
