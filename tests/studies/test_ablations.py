"""Ablations: the table by hand, the command on a few steps."""

import json
import math

import pytest

from alexnet_jax.experiment import config, config_file, training_run
from alexnet_jax.runtime.command_line import DONE, STOPPED
from alexnet_jax.runtime.command_line import run as run_command
from alexnet_jax.runtime.errors import InputError
from alexnet_jax.studies import ablations, published
from tests import config_files

GIVEN = {'network.name': 'krizhevsky2012', 'data.source': 'synthetic'}
BASE = config_file.load(None, GIVEN)
SMALL = config.changed(BASE, {'network.name': 'small'})


def make_from(**given: str):
    """(overrides) -> the configuration, as the command makes it from these settings."""
    given = GIVEN | {name.replace('__', '.'): text for name, text in given.items()}
    return ablations.maker({}, given)


def planned(text: str, **given: str) -> dict[str, config.Config]:
    make = make_from(**given)
    return ablations.plan(make, ablations.parse_ablations(text, make({})), [0])


def result(top1: float, top5: float = 0.1) -> dict:
    return {'split': 'val', 'top1_error': top1, 'top5_error': top5}


def test_differences_and_their_standard_error_by_hand():
    rows = ablations.parse_ablations('half,data.mirror=off', BASE)
    results = {
        'krizhevsky2012/seed-0': result(0.10), 'krizhevsky2012/seed-1': result(0.20),
        'krizhevsky2012/seed-2': result(0.30),
        'half/seed-0': result(0.13), 'half/seed-1': result(0.21), 'half/seed-2': result(0.35),
        'data.mirror=off/seed-0': result(0.05), 'data.mirror=off/seed-1': {'fault': 'nan'},
        'data.mirror=off/seed-2': result(0.25),
    }  # fmt: skip
    first, half, mirror = ablations.summarize(BASE, rows, [0, 1, 2], results)
    assert first['top1_error']['mean'] == pytest.approx(0.2)
    assert first['top1_error']['difference'] is None
    # Differences 0.03, 0.01, 0.05: mean 0.03, deviation 0.02, over √3.
    assert half['top1_error']['difference'] == pytest.approx(0.03)
    assert half['top1_error']['standard_error'] == pytest.approx(0.02 / math.sqrt(3))
    assert half['top1_error']['published'] == 0.017
    assert half['top5_error']['difference'] == pytest.approx(0.0)
    assert mirror['top1_error']['difference'] is None  # one of its runs has no error
    assert mirror['faults'] == {'data.mirror=off/seed-1': 'nan'} and half['faults'] == {}
    page = ablations.report([first, half, mirror], BASE, [0, 1, 2], 'val')
    assert 'data.mirror=off/seed-1 is excluded: nan' in page
    text = '\n'.join(ablations.table([first, half, mirror], 'top1_error'))
    assert (
        '| half | 0.2300 | 0.1300, 0.2100, 0.3500 | +0.0300 ± 0.0115 | +0.017 | §3.2, ILSVRC-2010 |'
        in text
    )
    assert '0.0500, none, 0.2500' in text
    one = ablations.summarize(BASE, rows[:1], [0], results)
    assert one[1]['top1_error']['standard_error'] is None


def test_the_top5_error_of_five_classes_is_none():
    results = {
        f'{name}/seed-0': result(error) | {'class_count': 5}
        for name, error in (('krizhevsky2012', 0.1), ('half', 0.2))
    }
    rows = ablations.summarize(BASE, ablations.parse_ablations('half', BASE), [0], results)
    assert [row['top5_error']['mean'] for row in rows] == [None, None]
    page = ablations.report(rows, BASE, [0], 'val')
    assert 'top1_error, mean' in page and 'top5_error' not in page


def test_the_plan_has_every_net_with_every_seed():
    rows = ablations.parse_ablations('', BASE)
    plan = ablations.plan(make_from(), rows, [4, 5])
    assert len(plan) == 2 * (1 + len(published.PUBLISHED))
    assert [plan[f'six_conv/seed-{seed}']['seed'] for seed in (4, 5)] == [4, 5]
    assert plan['six_conv/seed-4']['network.name'] == 'six_conv'
    assert plan['no_color/seed-4']['data.color_std'] == 0
    one, other = (config.flat(plan[f'{name}/seed-4']) for name in ('half', 'krizhevsky2012'))
    assert {name for name in one if one[name] != other[name]} == {'network.name'}


def test_ablations_of_the_paper_s_net_are_made_from_it():
    plan = planned('', network__name='paper')
    nets = {name.partition('/')[0]: run['network.name'] for name, run in plan.items()}
    assert nets.pop('no_color') == nets.pop('no_crops') == nets.pop('paper') == 'paper'
    assert all(name == net and net.startswith('paper_') for name, net in nets.items())
    assert len(nets) == 8
    assert planned('half', network__name='paper').keys() == {'paper/seed-0', 'paper_half/seed-0'}
    for base, whose in (
        ('paper', 'not of this base, `paper`, in which the same parts are changed'),
        ('photographs', 'not of this base, `photographs`, in which the same parts are changed'),
        ('krizhevsky2012', 'are of net 145'),
    ):
        chosen = make_from(network__name=base)({})
        rows = ablations.parse_ablations('half,no_color', chosen)
        names = [base, *(row.name for row in rows)]
        found = ablations.summarize(
            chosen, rows, [0], {f'{name}/seed-0': result(0.1) for name in names}
        )
        assert [row['top1_error']['published'] for row in found] == [None, 0.017, 0.01]
        page = ablations.report(found, chosen, [0], 'val')
        assert whose in page and ('not of this base' in page) == (base != 'krizhevsky2012')


def test_a_protocol_as_an_ablation_brings_its_own_defaults():
    """As the same setting does on the command line, below the file and other settings."""
    plan = planned('train.protocol=torchvision', optimizer__weight_decay='0.002')
    base, other = plan.values()
    alone = GIVEN | {'train.protocol': 'torchvision', 'optimizer.weight_decay': '0.002'}
    assert other == config_file.load(None, alone)
    values = config.flat(other)
    assert {name for name, value in config.flat(base).items() if value != values[name]} == {
        'train.protocol', 'data.batch_size', 'data.normalization', 'data.color_std',
    }  # fmt: skip
    assert (other['data.batch_size'], other['data.normalization']) == (256, 'standardized')


# Ablations that are refused, by what they are and by the base.
REFUSED = [
    ('seed=5', {}, "'seed=5', which is not allowed: every row is trained with the same seeds"),
    *(
        (setting, {}, 'all rows have the same images')
        for setting in ('data.source=digits', 'data.synthetic_classes=3', 'eval.views=10',
                        'eval.split=train', 'eval.step=3', 'data.synthetic_examples=9')
    ),
    *(
        (setting, {}, 'has no effect on the results')
        for setting in ('data.dir=x', 'data.threads=1', 'mesh.data=1', 'train.log_every_steps=2',
                        'network.exchange=scatter', 'checkpoint.keep=9', 'train.micro_batches=2',
                        'train.report=off')
    ),
    *(
        (setting, given, f"'{setting}', which has the same results as")
        for setting, given in (
            ('data.mirror=on', {}), ('network.name=krizhevsky2012', {}),
            ('optimizer.momentum=0.90', {}), ('train.protocol=paper', {}),
            ('network.activation=relu', {}), ('network.input_size=224', {}),
            ('network.width=1', {}), ('optimizer.layer_rates=conv1=1', {}),
            ('data.resize=squash', {}), ('train.epochs=90', {}),
            ('data.mirror=off', {'data__source': 'digits'}),
            ('data.mirror=off', {'data__source': 'patterns'}),
            ('data.random_crop=off', {'data__record_size': '224'}),
            ('data.color_epochs=3', {'data__color_std': '0'}),
            ('data.color_scale=variance', {'data__color_std': '0'}),
            ('schedule.patience=3', {'train__protocol': 'diary'}),
            ('schedule.drops=1', {'train__protocol': 'caffe'}),
            ('no_color', {'data__color_std': '0'}), ('no_color', {'train__protocol': 'caffe'}),
        )
    ),
    ('krizhevsky2012', {}, 'the name of the base, krizhevsky2012'),
    ('', {'data__color_std': '0'}, 'remove it: --ablations half,no_lrn,non_overlapping'),
    ('half,half', {}, "'half' twice; allowed: each once"),
    ('half,paper_half,half', {'network__name': 'paper'}, "'half' twice"),
    ('half,paper_half', {'network__name': 'paper'}, 'a name twice'),
    ('half,network.name=half', {}, "'half' and 'network.name=half', which have the same results"),
    ('no_color,data.color_std=0.0', {}, 'which have the same results'),
    ('data.color_std=0,data.color_std=0.0', {}, 'which have the same results'),
    ('half,no_lrn', {'start__from': 'runs/x'}, "start.from is 'runs/x'; allowed: empty, because half"),
    ('network.width=0.5', {'start__from': 'runs/x'}, 'because network.width=0.5 is another net'),
    ('start.from=a/b,start.from=a_b', {}, 'names with the same folder'),
    (f'start.from={"x" * 300}', {}, 'of 311 characters; allowed: up to 200'),
    (',', {}, '--ablations is empty'),
    ('optimizer.momentum=2', {}, 'optimizer.momentum=2: optimizer.momentum is 2.0; allowed'),
]  # fmt: skip


@pytest.mark.parametrize(('text', 'given', 'message'), REFUSED)
def test_ablations_that_compare_nothing_are_refused(text, given, message):
    with pytest.raises(InputError) as error:
        planned(text, **given)
    assert message in str(error.value) and len(str(error.value).splitlines()) <= 2


@pytest.mark.parametrize(('text', 'given'), [
    ('data.mirror=off', {}),
    ('data.random_crop=off', {}),
    ('train.epochs=9', {}),
    ('train.steps=9', {}),
    ('start.from=runs/x', {}),
    ('optimizer.momentum=0', {'start__from': 'runs/x'}),
    ('data.color_epochs=3', {}),
    ('schedule.patience=3', {}),
    ('optimizer.layer_rates=conv1=0', {}),
    ('network.compute=bfloat16', {}),
    ('network.precision=highest', {}),
    ('network.width=0.5,network.width=0.25', {}),
])  # fmt: skip
def test_ablations_that_compare_something_are_taken(text, given):
    assert len(planned(text, **given)) == 2 + text.count(',')


@pytest.mark.parametrize(('text', 'base', 'message'), [
    ('haf', BASE, "'haf'; the nearest is half"),
    ('seeed=1', BASE, "'seeed=1'; the nearest is"),
    ('', SMALL, r'of krizhevsky2012, paper, photographs, not of network small'),
])  # fmt: skip
def test_ablations_that_cannot_be(text, base, message):
    with pytest.raises(InputError, match=message):
        ablations.parse_ablations(text, base)


@pytest.mark.parametrize(
    ('ablation', 'file', 'given', 'length'),  # train.steps, train.epochs
    [
        ('train.epochs=3', {'train.steps': 500}, {}, (0, 3)),
        ('train.epochs=3', {}, {'train.steps': '500'}, (0, 3)),
        (
            'train.epochs=3',
            {'train.steps': 500},
            {'train.steps': '50', 'train.epochs': '7'},
            (0, 3),
        ),
        ('train.epochs=3', {}, {'train.protocol': 'caffe'}, (0, 3)),
        ('train.steps=5', {}, {'train.epochs': '7'}, (5, 7)),
        ('train.steps=5', {'train.steps': 500}, {'train.steps': '50'}, (5, 90)),
        ('data.mirror=off', {}, {'train.steps': '500', 'train.epochs': '7'}, (500, 7)),
    ],
)
def test_the_length_of_an_ablation_replaces_that_of_the_base(ablation, file, given, length):
    make = ablations.maker(GIVEN | file, given)
    configs = ablations.plan(make, ablations.parse_ablations(ablation, make({})), [0])
    ablated = configs[f'{ablation}/seed-0']
    assert (ablated['train.steps'], ablated['train.epochs']) == length


def test_ablations_of_another_net_take_nets_and_settings():
    rows = ablations.parse_ablations('cifar18,network.width=0.5', SMALL)
    assert [row.published for row in rows] == [(None, None)] * 2
    with pytest.raises(InputError, match='half: '):  # its crop does not fit the records
        planned('half', network__name='small', data__record_size='32')
    with pytest.raises(InputError, match=r"data\.mirror=maybe: data\.mirror is 'maybe'"):
        planned('data.mirror=maybe')


QUICK = [
    '--config.network.name=four_layer', '--config.data.source=digits',
    '--config.data.record_size=32', '--config.network.width=0.25', '--config.train.epochs=2',
]  # fmt: skip


def test_the_page_names_the_views_and_the_images():
    rows = ablations.parse_ablations('half', BASE)
    found = {name: result(0.1) for name in ('krizhevsky2012/seed-0', 'half/seed-0')}
    table = ablations.summarize(BASE, rows, [0], found)
    for views, words in ((1, 'val images, 1 view;'), (10, 'val images, 10 views;')):
        assert words in ablations.report(
            table, config.changed(BASE, {'eval.views': views}), [0], 'val'
        )


@pytest.mark.thorough
def test_ablations_from_the_command_line_go_on_where_they_were_stopped(
    tmp_path, data_dir, monkeypatch, capsys
):
    path = config_files.with_values(tmp_path / 'base.py', {'seed': 3})
    folder = tmp_path / 'all'
    command = [
        '--config', str(path), '--workdir', str(folder), '--seeds', '1',
        '--ablations', 'optimizer.momentum=0', f'--config.data.dir={data_dir}', *QUICK,
    ]  # fmt: skip
    trained, stops = [], [False, True]

    def train(config, workdir, stop_requested):
        """The real thing; the second run is asked to stop."""
        trained.append(workdir.relative_to(folder).as_posix())
        stop = bool(stops) and stops.pop(0)
        return real_train(config, workdir, (lambda: True) if stop else stop_requested)

    real_train = training_run.train
    monkeypatch.setattr(training_run, 'train', train)
    assert run_command(ablations.run, command) == STOPPED
    assert run_command(ablations.run, command) == DONE
    zero = 'optimizer.momentum=0/seed-3'
    assert trained == ['four_layer/seed-3', zero, zero]
    for row in json.loads((folder / 'ablations.json').read_text())['rows']:
        kept = folder / row['name'] / 'seed-3' / 'eval' / 'test-1.json'
        assert row['top1_error']['seeds'] == [json.loads(kept.read_text())['top1_error']]
    page = (folder / 'ablations.md').read_text()
    assert page in capsys.readouterr().out
    assert '1 seed each, from 3; errors on the test images, 1 view;' in page

    # All is done: nothing is trained again. Longer and shorter runs: tests/studies/test_studies.py.
    del trained[:]
    assert run_command(ablations.run, command) == DONE
    assert trained == []
