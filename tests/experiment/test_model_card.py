"""The model card: its metadata as the Hub reads it, its numbers, its steps without this package, its
snippet run, and names that would break it."""

import dataclasses
import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from markdown_it import MarkdownIt
from PIL import Image
from safetensors.numpy import load_file

from alexnet_jax.evaluation.tally import Tally
from alexnet_jax.experiment import config as configuration
from alexnet_jax.experiment import exchange, loading, model_card, results
from alexnet_jax.experiment.identity import WEIGHTS
from alexnet_jax.experiment.model import Model
from alexnet_jax.network import inference
from alexnet_jax.network.alexnet import AlexNet
from alexnet_jax.runtime.errors import InputError
from alexnet_jax.training.protocols import PROTOCOLS
from alexnet_jax.weights import __main__ as weights
from tests.training.donors import model_of

CLASSES = ('cat', 'dog', 'bird', 'fish', 'ant', 'bee', 'fox')
DATA = {
    'source': 'folder:/home/someone/photographs', 'version': '1', 'classes': 'c', 'content': 'd',
    'splits': 'train 640, test 9, val 5',
}  # fmt: skip
HOSTILE = (
    '---', '\n---\nlicense: mit\n', '"quoted": \'x\'', 'a | b', '<script>alert(1)</script>', '`code`',
    '[here](https://example.com)', 'https://example.com', '**bold** _and_ &lt; \\| $x$', '# a\r\n# b',
    '{{ x }}', '- 1', '\u202eright to left', 'döner 🥙', '~~a~~ www.example.com me@example.com', 'x' * 999,
)  # fmt: skip
with_library = pytest.mark.skipif(
    not importlib.util.find_spec('huggingface_hub'), reason='huggingface_hub is not installed'
)


def made(classes: tuple[str, ...] = CLASSES, **changes: object) -> Model:
    settings = {'data__source': DATA['source'], 'network__width': '0.5'} | {
        name: text for name, text in changes.items() if '__' in name
    }
    model = model_of('small', len(classes), at_step=30, **settings)
    fields = {name: value for name, value in changes.items() if '__' not in name}
    return dataclasses.replace(model, **({'classes': classes, 'data': DATA} | fields))


def evaluated(workdir: Path, model: Model, split: str, views: int, places: list[int]) -> None:
    """Keeps a result: so many classes come before the label of each image."""
    count = len(model.classes)
    tally, scores = Tally.zero(count), np.log(np.arange(count, 0, -1) / count)
    tally.add(np.tile(scores, (len(places), 1)), np.array(places), np.ones(len(places)))
    changes = {'eval.views': views, 'data.source': model.config.data.source}
    config = configuration.changed(model.config, changes)
    about = results.about(config, split, model.step, model.mirror, model.data, model.identity)
    results.keep(workdir, about, tally, model.classes)


@pytest.fixture(scope='module')
def run(tmp_path_factory) -> Path:
    """A workdir with results: of 9 test images 4 top-1 and 2 top-5 errors."""
    workdir, model = tmp_path_factory.mktemp('card') / 'run', made()
    exchange.write_workdir(workdir, model)
    model = loading.load(workdir)
    evaluated(workdir, model, 'test', 1, [0, 0, 0, 0, 0, 1, 4, 5, 6])
    evaluated(workdir, model, 'val', 10, [0, 0, 0, 0, 3])
    evaluated(workdir, model, 'train', 1, [0])
    return workdir


@pytest.fixture(scope='module')
def pushed(run, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('pushed')
    exchange.push(run, str(folder))
    return folder


def test_the_license_is_the_one_given(run, tmp_path, capsys):
    assert weights.main(['push', str(run), str(tmp_path / 'a'), '--license', 'cc-by-4.0']) == 0
    tree, _ = parsed((tmp_path / 'a' / 'README.md').read_text())
    assert tree['license'] == 'cc-by-4.0'
    capsys.readouterr()
    assert weights.main(['push', str(run), str(tmp_path / 'b'), '--license', 'a: b']) == 2
    assert "--license is 'a: b'; allowed: a name as mit or cc-by-4.0" in capsys.readouterr().err
    assert not (tmp_path / 'b').exists()


def card_of(model: Model, folder: Path) -> str:
    """The card of a model with the results that a folder has of it."""
    source = exchange.portable(model.config)['data.source']
    return model_card.model_card(model, source, 'FOLDER', results.own(folder))


def parsed(card: str) -> tuple[dict, str]:
    """The metadata and the text below."""
    _, block, text = re.split(r'^---$', card, maxsplit=2, flags=re.MULTILINE)
    return yaml.safe_load(block), text


def tables(text: str) -> list[list[list[str]]]:
    """The tables of a Markdown text: rows of cells."""
    found: list = []
    for token in MarkdownIt().enable('table').parse(text):
        if token.type == 'table_open':
            found.append([])
        elif token.type == 'tr_open':
            found[-1].append([])
        elif token.type == 'inline' and token.level == 4:  # in a cell
            found[-1][-1].append(''.join(child.content for child in token.children))
    return found


def test_the_metadata_has_the_results_of_the_held_out_images(pushed):
    tree, text = parsed((pushed / 'README.md').read_text())
    assert tree['library_name'] == 'alexnet_jax' and tree['metrics'] == ['accuracy']
    assert tree['pipeline_tag'] == 'image-classification'
    assert {'alexnet', 'jax', 'flax'} <= set(tree['tags']) and 'license' not in tree
    (index,) = tree['model-index']
    rows = {row['dataset']['split']: row for row in index['results']}
    assert rows.keys() == {'test', 'val'}
    assert rows['test']['dataset'] == {
        'name': 'photographs',
        'type': 'imagefolder',
        'split': 'test',
    }
    values = {
        (split, metric['name']): metric['value']
        for split, row in rows.items() for metric in row['metrics']
    }  # fmt: skip
    assert values == {
        ('test', 'Top-1 accuracy (1 view)'): pytest.approx(5 / 9, abs=1e-6),
        ('test', 'Top-5 accuracy (1 view)'): pytest.approx(7 / 9, abs=1e-6),
        ('val', 'Top-1 accuracy (10 views)'): pytest.approx(4 / 5, abs=1e-6),
        ('val', 'Top-5 accuracy (10 views)'): 1.0,
    }
    shown = next(rows for rows in tables(text) if rows[0][0] == 'split')
    # Wilson's interval of 4 errors among 9, by hand: z 1.959964.
    assert shown[1] == [
        'test', '1 view', '9', '0.4444 [0.1888, 0.7333]', '0.5556', '0.2222 [0.0632, 0.5474]', '0.7778',
    ]  # fmt: skip
    assert '/home/someone' not in text


@with_library
def test_the_hub_s_library_reads_it(pushed):
    from huggingface_hub import ModelCard

    card = ModelCard.load(pushed / 'README.md')
    assert card.data.library_name == 'alexnet_jax' and card.data.model_name == 'small'
    found = [
        (one.dataset_split, one.metric_name, one.metric_value) for one in card.data.eval_results
    ]
    assert ('test', 'Top-1 accuracy (1 view)', 0.555556) in found and len(found) == 4
    assert {one.task_type for one in card.data.eval_results} == {'image-classification'}
    again = ModelCard(str(card))  # as the library writes it
    assert again.data.to_dict() == parsed((pushed / 'README.md').read_text())[0]


def test_results_of_another_step_or_run_are_left_out(run, tmp_path):
    workdir, model = tmp_path / 'run', loading.load(run)
    exchange.write_workdir(workdir, model)
    evaluated(workdir, dataclasses.replace(model, step=29), 'val', 1, [0])
    about = {'split': 'test', 'views': 1, 'source': 'x', 'network': 'small', 'step': 30}  # no run
    results.keep(workdir, about, _one(), model.classes)
    exchange.push(workdir, str(tmp_path / 'to'))
    tree, text = parsed((tmp_path / 'to' / 'README.md').read_text())
    assert 'model-index' not in tree and 'metrics' not in tree and '## Results' not in text
    results.keep(workdir, about | {'run': 'another'}, _one(), model.classes)
    with pytest.raises(InputError, match='is of another run than'):
        exchange.push(workdir, str(tmp_path / 'more'))


def _one() -> Tally:
    tally = Tally.zero(len(CLASSES))
    tally.add(np.log(np.arange(7, 0, -1) / 7)[None], np.array([0]), np.ones(1))
    return tally


def test_of_five_classes_there_is_no_top_5(tmp_path):
    model = made(CLASSES[:5])
    evaluated(tmp_path, model, 'test', 1, [0, 1])
    tree, text = parsed(card_of(model, tmp_path))
    (row,) = tree['model-index'][0]['results']
    assert [metric['name'] for metric in row['metrics']] == ['Top-1 accuracy (1 view)']
    assert '| – | – |' in text


def test_the_net_and_the_training(pushed):
    text = (pushed / 'README.md').read_text()
    arrays = load_file(pushed / 'model.safetensors')
    count = sum(x.size for name, x in arrays.items() if not name.startswith('normalization/'))
    assert f'2 columns, images of 28×28 pixels, 7 classes, {count:,} parameters.' in text
    net, differences, recipe, _ = tables(text)
    assert [row[0] for row in net[1:]] == [
        'conv1',
        'conv2',
        'conv3',
        'conv4',
        'conv5',
        'fc6',
        'fc7',
        'fc8',
    ]
    for row in net[1:]:
        own = sum(x.size for name, x in arrays.items() if name.startswith(f'{row[0]}/'))
        assert row[2] == f'{own:,}'
    assert ['input_size', '28', '224'] in differences
    assert 'photographs (train 640, test 9, val 5)' in text
    # 30 steps of 128 images, of 640.
    assert 'Recipe: paper (§5), 30 steps, 6 epochs, softmax loss.' in text
    assert ['optimizer.weight_decay', '0.0005'] in [row[:2] for row in recipe]


@pytest.mark.parametrize('resize', ['center_square', 'short_side', 'squash'])
def test_its_steps_without_this_package(resize, random, tmp_path):
    model = made(data__resize=resize, data__record_size='40')
    text = card_of(model, tmp_path)
    original = image = Image.fromarray(random.integers(0, 256, (70, 91, 3), np.uint8))
    side, size, first = (
        int(re.findall(words, text)[0])
        for words in (
            r'(?:resized to|Resize\() ?(\d+)',
            r'Keep the middle (\d+)×',
            r'column (\d+) on',
        )
    )
    if resize == 'center_square':
        square = (10.5, 0, 80.5, 70)
        image = image.resize((side, side), Image.Resampling.BICUBIC, box=square)
    elif resize == 'short_side':
        image = image.resize((52, side), Image.Resampling.BILINEAR).crop((6, 0, 46, 40))
    else:
        cv2 = pytest.importorskip('cv2')
        image = cv2.resize(np.asarray(image), (side, side), interpolation=cv2.INTER_LINEAR)
    pixels = np.asarray(image)[None, first : first + size, first : first + size]
    np.testing.assert_array_equal(pixels, model.read(original))
    mean, scale = (
        np.array(re.findall(rf'`{name} = \[(.+?)\]`', text)[0].split(','), np.float32)
        for name in ('mean', 'scale')
    )
    ours = inference.normalize(model.read(original), model.mean, model.scale)
    np.testing.assert_allclose(ours, (pixels - mean) / scale, rtol=1e-6)


def test_a_mean_image_is_named(tmp_path):
    mean = np.random.default_rng(0).uniform(0, 255, (28, 28, 3)).astype(np.float32)
    exchange.write(tmp_path / 'one.safetensors', made(mean=mean))
    exchange.push(tmp_path / 'one.safetensors', str(tmp_path / 'to'))
    tree, text = parsed((tmp_path / 'to' / 'README.md').read_text())
    assert 'the array `normalization/mean` [28, 28, 3] of `model.safetensors`' in text
    assert 'model-index' not in tree and '## Results' not in text
    kept = load_file(tmp_path / 'to' / 'model.safetensors')['normalization/mean']
    np.testing.assert_array_equal(kept, mean)


@pytest.mark.thorough
def test_its_snippet_runs_in_the_pushed_folder(pushed, random, monkeypatch, capsys):
    (code,) = re.findall(r'```python\n(.*?)```', (pushed / 'README.md').read_text(), re.DOTALL)
    Image.fromarray(random.integers(0, 256, (40, 40, 3), np.uint8)).save(pushed / 'image.png')
    monkeypatch.chdir(pushed)
    names: dict = {}
    exec(code, names)
    logits = np.asarray(names['logits'])
    assert capsys.readouterr().out == f'{CLASSES[logits[0].argmax()]}\n'
    assert {name: x.shape for name, x in names['features'].items()} == {'fc7/relu': (1, 256)}


def test_a_card_in_a_repository_names_it():
    card = model_card.model_card(made(), 'digits', 'hf:someone/tiny-alexnet')
    assert "model = load('hf:someone/tiny-alexnet')\n" in card and '\n# tiny-alexnet\n' in card
    assert 'alexnet-jax weights pull hf:someone/tiny-alexnet --workdir DIR' in card


@pytest.mark.parametrize(('source', 'name'), [
    ('tfds:cifar10', 'uoft-cs/cifar10'), ('tfds:imagenet2012:5.1.0', 'ILSVRC/imagenet-1k'),
    ('tfds:another', None), ('digits', None),
])  # fmt: skip
def test_data_sets_of_the_hub(source, name, tmp_path):
    tree, _ = parsed(card_of(made(data__source=source), tmp_path))
    assert tree.get('datasets') == ([name] if name else None)
    assert 'model-index' not in tree and 'metrics' not in tree


def test_imported_weights_state_no_training(tmp_path):
    model = made(data__source='tfds:cifar10', data={WEIGHTS: 'digest'}, step=0)
    tree, text = parsed(card_of(model, tmp_path))
    assert 'datasets' not in tree and 'states no training images and no recipe' in text
    evaluated(tmp_path, model, 'test', 1, [0])  # of which the set is known
    tree, text = parsed(card_of(model, tmp_path))
    assert tree['model-index'][0]['results'][0]['dataset']['type'] == 'uoft-cs/cifar10'
    further = dataclasses.replace(model, step=30)
    tree, text = parsed(card_of(further, tmp_path))
    assert tree['datasets'] == ['uoft-cs/cifar10'] and '30 steps' in text
    assert 'Training began with weights of another model.' in text


def test_a_start_from_another_model_is_said(tmp_path):
    for start, said in (('/home/someone/run', True), ('', False)):
        config = configuration.changed(made().config, {'start.from': start})
        text = card_of(made(config=config), tmp_path)
        assert ('Training began with weights of another model.' in text) == said
        assert '/home/someone' not in text
    for start, base in (('hf:some_one/alex-net', 'some_one/alex-net'), ('torchvision', None)):
        config = configuration.changed(made().config, {'start.from': start})
        tree, text = parsed(card_of(made(config=config), tmp_path))
        assert f'Training began with weights of {start}.' in text.replace('\\', '')
        assert tree.get('base_model') == base
    some = configuration.changed(config, {'start.from': 'run', 'start.layers': ('conv1', 'fc6')})
    text = card_of(made(config=some), tmp_path)
    assert 'Training began with conv1, fc6 of another model.' in text


def test_mirroring_is_what_the_training_did(tmp_path):
    for mirror in (True, False):
        text = card_of(made(mirror=mirror), tmp_path)
        assert f'| `data.mirror` | {str(mirror).lower()} |' in text


def test_hostile_names(tmp_path):
    model = made(HOSTILE, data__source='folder:a | "b" <script> # --- \'c\': d')
    table = dataclasses.replace(model.net.architecture, name='n | <b> # [x](y)')
    protocol = dataclasses.replace(PROTOCOLS['paper'], name='*p* |\n---\n', source='<i>s</i>')
    config = configuration.changed(model.config, {'train.table': protocol})
    model = dataclasses.replace(model, net=AlexNet(table, len(HOSTILE)), config=config)
    evaluated(tmp_path, model, 'test', 1, [0])
    tree, text = parsed(card_of(model, tmp_path))
    assert 'license' not in tree
    (row,) = tree['model-index'][0]['results']
    assert row['dataset']['name'] == 'a | "b" <script> # --- \'c\': d'
    tokens = MarkdownIt().enable(['table', 'strikethrough']).parse(text)
    inline = [child for token in tokens for child in token.children or ()]
    html = [token.content.strip() for token in (*tokens, *inline) if token.type.startswith('html')]
    assert len(html) == 2 and html[0].startswith('<details><summary>') and html[1] == '</details>'
    links = [token.attrs['href'] for token in inline if token.type == 'link_open']
    assert links == ['https://papers.nips.cc/paper/4824']
    assert not {'em_open', 'strong_open', 's_open', 'image', 'hardbreak'} & {x.type for x in inline}
    assert sum(token.type == 'heading_open' for token in tokens) == 9  # the title and 8 sections
    for table in tables(text):
        assert {len(cells) for cells in table} == {len(table[0])}
    items = [token for token in tokens if token.type == 'inline' and token.level == 3]
    said = [''.join(child.content for child in token.children) for token in items]
    assert f'3: {HOSTILE[3]}' in said and f'4: {HOSTILE[4]}' in said and f'8: {HOSTILE[8]}' in said
    assert '1: \\n---\\nlicense: mit\\n' in said and '13: döner 🥙' in said
    assert max(map(len, said)) < 350
    plain = ' '.join(''.join(child.content for child in x.children or ()) for x in tokens)
    assert 'The net n | <b> # [x](y) of ' in plain and '*p* |\\n---\\n (<i>s</i>)' in plain


@with_library
def test_the_hub_s_library_reads_hostile_names(tmp_path):
    from huggingface_hub import ModelCard

    source = 'folder:\u2028: [x] {y} & *z ! % @ ` #'
    model = made(HOSTILE, data__source=source)
    evaluated(tmp_path, model, 'test', 1, [0])
    card = ModelCard(card_of(model, tmp_path))
    assert card.data.eval_results[0].dataset_name == '\\u2028: [x] {y} & *z ! % @ ` #'
