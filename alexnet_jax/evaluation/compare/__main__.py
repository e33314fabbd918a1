"""Comparisons of features: with each other, with human judgments, with classes.

    python -m alexnet_jax.evaluation.compare rdm FEATURES --layer conv5/pool --out DIR
        [--metric correlation|euclidean|cosine]
    python -m alexnet_jax.evaluation.compare rsa A B
        [--correlation spearman|pearson|kendall|kendall_a] [--bootstrap 1000]
        [--permutations 1000] [--seed 0] [--out DIR]
    python -m alexnet_jax.evaluation.compare cka FEATURES FEATURES [--layers conv1,fc7/relu]
        [--out DIR]
    python -m alexnet_jax.evaluation.compare probe FEATURES --layer fc7/relu [--labels FILE.csv]
        [--l2 0.01] [--test FEATURES] [--held_out 0.2] [--seed 0] [--out DIR]

FEATURES is a folder that `python -m alexnet_jax.evaluation features` has made.
`rdm` writes the dissimilarities of every two images. `rsa` correlates two such matrices: A and B
are folders made by rdm, or .npy or .csv files of a square matrix. `cka` compares every layer of one
folder with every layer of the other. `probe` trains a linear classifier on a layer. docs/comparisons.md
says what each measure is. Exit status: as for alexnet_jax.main.
"""

import argparse
import dataclasses
import math
import sys
from pathlib import Path
from typing import Any

from alexnet_jax.runtime import command_line, files, memory
from alexnet_jax.runtime.command_line import DONE, Parser
from alexnet_jax.runtime.errors import InputError, counted, shown

MOST_DRAWS = 10**6
MOST_SEED = 2**32 - 1
LEAST_L2, MOST_L2 = 1e-8, 1e4
SHOWN = 3  # ids in a message


def parse(argv: list[str]) -> argparse.Namespace:
    """Parses the command line."""
    parser = Parser(prog='python -m alexnet_jax.evaluation.compare', description=__doc__)
    commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')
    add = commands.add_parser('rdm', help='dissimilarities of every two images')
    add.add_argument('features', type=Path, metavar='FEATURES', help='a folder of features')
    add.add_argument('--layer', help='default: the only layer')
    add.add_argument(
        '--metric', choices=('correlation', 'euclidean', 'cosine'), default='correlation',
        help='dissimilarity of two images (correlation)',
    )  # fmt: skip
    add.add_argument('--out', type=Path, required=True, help='a folder')
    add = commands.add_parser('rsa', help='correlate two dissimilarity matrices')
    add.add_argument('first', type=Path, metavar='A', help='a matrix: a folder or file')
    add.add_argument('second', type=Path, metavar='B', help='a matrix: a folder or file')
    add.add_argument(
        '--correlation', choices=('spearman', 'pearson', 'kendall', 'kendall_a'), default='spearman',
        help='correlation of the two matrices (spearman)',
    )  # fmt: skip
    add.add_argument(
        '--bootstrap', type=int, default=1000, help='resamples of the interval; 0: none (1000)'
    )
    add.add_argument(
        '--permutations', type=int, default=1000, help='permutations of the test; 0: none (1000)'
    )
    add.add_argument('--seed', type=int, default=0, help='seed of the random draws (0)')
    add.add_argument('--out', type=Path, help='a folder')
    add = commands.add_parser('cka', help='compare every layer with every layer')
    add.add_argument('first', type=Path, metavar='FEATURES', help='a folder of features')
    add.add_argument('second', type=Path, metavar='FEATURES', help='another')
    add.add_argument('--layers', help='comma-separated names (all)')
    add.add_argument('--out', type=Path, help='a folder')
    add = commands.add_parser('probe', help='train a linear classifier on a layer')
    add.add_argument('features', type=Path, metavar='FEATURES', help='a folder of features')
    add.add_argument('--layer', help='default: the only layer')
    add.add_argument('--labels', type=Path, help='a .csv file with the header id,label')
    add.add_argument(
        '--l2', type=float, help='penalty; default: the best on a part of the training images'
    )
    add.add_argument('--test', type=Path, metavar='FEATURES', help='features of held-out images')
    add.add_argument('--held_out', type=float, help='share of each class that is held out (0.2)')
    add.add_argument('--seed', type=int, default=0, help='seed of the random draws (0)')
    add.add_argument('--out', type=Path, help='a folder')
    options = parser.parse_args(argv)
    require_options(options)
    return options


def require_options(options: argparse.Namespace) -> None:
    """Checks the numbers, and that --out may be a folder.

    Raises:
      InputError: one is not allowed.
    """
    most = {'bootstrap': MOST_DRAWS, 'permutations': MOST_DRAWS, 'seed': MOST_SEED}
    for name in most.keys() & vars(options).keys():
        if not 0 <= getattr(options, name) <= most[name]:
            value = shown(getattr(options, name))
            raise InputError(f'--{name} is {value}; allowed: whole numbers from 0 to {most[name]}')
    if options.out and options.out.exists() and not options.out.is_dir():
        raise InputError(f'--out {options.out} is a file; allowed: a folder')
    if options.command == 'rdm':
        files.require_own_folder(options.out, 'rdm.npy')
    if options.command != 'probe':
        return
    if options.l2 is not None and not LEAST_L2 <= options.l2 <= MOST_L2:
        raise InputError(f'--l2 is {options.l2}; allowed: numbers from {LEAST_L2} to {MOST_L2}')
    if options.test and options.held_out is not None:
        raise InputError('--held_out does not go with --test')
    if options.held_out is not None and not 0 < options.held_out < 1:
        raise InputError(f'--held_out is {options.held_out}; allowed: numbers between 0 and 1')


def run_rdm(options: argparse.Namespace) -> int:
    """Writes the dissimilarity matrix of a layer's features; returns the exit status."""
    import numpy as np

    from alexnet_jax.evaluation import arrays
    from alexnet_jax.evaluation.compare import dissimilarity, features, matrices
    from alexnet_jax.report.figures import matrices as figures

    images = features.read(options.features)
    layer, name = features.layer(images, options.layer)
    count = len(images.ids)
    if count < matrices.LEAST:
        raise InputError(f'{options.features} has {counted(count, "image")}; {matrices.LEAST} at least are needed')  # fmt: skip
    memory.require(dissimilarity.memory_needed(count), f'a matrix of {count} images')
    undefined = [
        images.ids[row] for row in np.flatnonzero(dissimilarity.undefined(layer, options.metric))
    ]
    if len(undefined) == count:
        raise InputError(
            f'{options.metric} of {name} is not defined for any image: its features are'
            f' {dissimilarity.UNDEFINED[options.metric]}; allowed: --metric=euclidean'
        )
    about = {
        'features': str(options.features), 'layer': name, 'metric': options.metric, 'images': count,
        'units': math.prod(layer.shape[1:]), 'undefined': undefined,
        'about_features': {key: value for key, value in images.about.items() if key != arrays.SEALS},
    }  # fmt: skip
    files.require_same_command(options.out / arrays.ABOUT, about)
    values = dissimilarity.rdm(layer, options.metric)
    with matrices.writing(options.out, about, values, images.ids) as made:
        figures.draw_dissimilarities(values, f'{name}, {options.metric}', made / 'rdm')
    if undefined:
        print(
            f'{options.metric} is not defined for {counted(len(undefined), "image")}, with features'
            f' {dissimilarity.UNDEFINED[options.metric]}; rows of NaN: {_some(undefined)}'
        )
    print(f'{options.metric} of {name}, {count} images -> {options.out}')
    return DONE


def run_rsa(options: argparse.Namespace) -> int:
    """Correlates two dissimilarity matrices and prints the result; returns the exit status."""
    from alexnet_jax.evaluation.compare import matrices, rsa

    first = matrices.read(options.first)
    second, how = matrices.matched(first, matrices.read(options.second))
    count = len(first.values)
    memory.require(rsa.memory_needed(count), f'comparing matrices of {count} images')
    found = rsa.rsa(
        first.values, second.values, options.correlation, options.bootstrap, options.permutations,
        options.seed,
    )  # fmt: skip
    print(how)
    if found.resamples < options.bootstrap:
        print(f'{options.bootstrap - found.resamples} resamples without a correlation left out')
    interval = '' if found.interval is None else ' [{:.4f}, {:.4f}]'.format(*found.interval)
    p = '' if found.p is None else f'; p {found.p:.4g} ({found.permutations} permutations)'
    print(
        f'{found.correlation} {found.value:.4f}{interval} over {found.pairs} pairs of'
        f' {found.images} images{p}'
    )
    about = {'first': str(options.first), 'second': str(options.second), 'order': how}
    _keep(options.out, 'rsa', about | dataclasses.asdict(found))
    return DONE


def run_cka(options: argparse.Namespace) -> int:
    """Writes the CKA of every two layers of two feature folders; returns the exit status."""
    from alexnet_jax.evaluation.compare import cka, features
    from alexnet_jax.report.figures import matrices as figures

    sets = [features.read(options.first), features.read(options.second)]
    names = features.chosen_layers(options.layers, [features.layers(images) for images in sets])
    places = features.order(sets[0].ids, sets[1].ids, (str(options.first), str(options.second)))
    count = len(places)
    memory.require(cka.memory_needed(count, len(names[1])), f'CKA of {count} images')
    first, second = (
        [features.layer(images, name, '--layers')[0] for name in chosen]
        for images, chosen in zip(sets, names, strict=True)
    )
    if places.tolist() != list(range(count)):
        print(f'{options.second} is reordered: its images are in another order')
        second = [layer[places] for layer in second]
    values = cka.cka(first, second)
    print('\n'.join(_table(values, names[0], names[1])))
    if options.out:
        figures.draw_similarities(values, names[0], names[1], options.out / 'cka')
    _keep(options.out, 'cka', {
        'first': str(options.first), 'second': str(options.second), 'images': count,
        'first_layers': names[0], 'second_layers': names[1],
        'cka': [[value if math.isfinite(value) else None for value in row] for row in values.tolist()],
    })  # fmt: skip
    return DONE


def run_probe(options: argparse.Namespace) -> int:
    """Fits a linear classifier to features and prints its errors; returns the exit status."""
    from alexnet_jax.evaluation.compare import labels, probe

    table = labels.read_table(options.labels) if options.labels else None
    images, test, shared = labels.read(options.features, options.layer, table), None, 0
    _print_unlabeled(images)
    if options.test:
        held = labels.read(options.test, images.layer, table)
        _print_unlabeled(held)
        test, shared = (held.features, held.labels), len(set(images.ids) & set(held.ids))
    if shared:
        print(f'{counted(shared, "id")} of {options.test} also in {options.features}')
    share = 0.2 if options.held_out is None else options.held_out
    found = probe.probe(images.features, images.labels, test, options.l2, share, options.seed)
    _print_probe(images.layer, found)
    _keep(options.out, 'probe', {
        'features': str(options.features), 'test': str(options.test) if options.test else None,
        'shared_ids': shared, 'layer': images.layer, 'units': math.prod(images.features.shape[1:]),
        'seed': options.seed, 'classes': list(found.classes),
        'training_images': found.training_images, 'held_out_images': found.held_out_images,
        'error': found.error, 'interval': found.interval, 'chance_error': found.chance_error,
        'training_error': found.training_error, 'l2': found.model.l2,
        'l2_errors': {f'{l2:g}': x for l2, x in found.l2_errors.items()},
        'steps': found.model.steps, 'converged': found.model.converged,
    })  # fmt: skip
    return DONE


def _print_unlabeled(images: Any) -> None:
    if images.unlabeled:
        print(f'{images.folder}: {counted(images.unlabeled, "image")} without a label left out')


def _print_probe(layer: str, found: Any) -> None:
    low, high = found.interval
    l2 = f'l2 {found.model.l2:g}'
    if found.l2_errors:
        edge = found.model.l2 in (min(found.l2_errors), max(found.l2_errors))
        tried = f'{min(found.l2_errors):g} to {max(found.l2_errors):g}'
        l2 += f', chosen from {tried}' + ', at its edge' * edge
    print(f'trained on {found.training_images} images of {len(found.classes)} classes; {l2}')
    if not found.model.converged:
        print(f'the minimum was not reached in {found.model.steps} steps; a larger --l2 helps')
    print(
        f'{layer}: held-out error {found.error:.4f} [{low:.4f}, {high:.4f}] of'
        f' {found.held_out_images} images; chance {found.chance_error:.4f};'
        f' training error {found.training_error:.4f}'
    )


def _table(values: Any, rows: list[str], columns: list[str]) -> list[str]:
    """Returns lines of a table, columns as wide as their names."""
    first = max(len(name) for name in rows)
    widths = [max(len(name), 6) for name in columns]
    head = ' '.join([' ' * first, *map(str.rjust, columns, widths)])
    lines = [
        ' '.join([
            name.ljust(first),
            *(('–' if math.isnan(x) else f'{x:.3f}').rjust(w) for x, w in zip(row, widths, strict=True)),
        ])
        for name, row in zip(rows, values, strict=True)
    ]  # fmt: skip
    return [head, *lines]


def _some(ids: list[str]) -> str:
    more = f' and {len(ids) - SHOWN} more' if len(ids) > SHOWN else ''
    return ', '.join(map(shown, ids[:SHOWN])) + more


def _keep(out: Path | None, name: str, tree: dict[str, Any]) -> None:
    """Writes NAME.json in the folder; None: nothing."""
    if out is None:
        return
    from alexnet_jax.experiment import results

    results.write_json(out / f'{name}.json', tree)
    print(f'-> {out}')


COMMANDS = {'rdm': run_rdm, 'rsa': run_rsa, 'cka': run_cka, 'probe': run_probe}


def run(argv: list[str]) -> int:
    """Runs the command and returns its exit status."""
    options = parse(argv)
    command_line.before_jax()
    return COMMANDS[options.command](options)


def main(argv: list[str] | None = None) -> int:
    """Runs the command line in this process and returns its exit status."""
    return command_line.run(run, argv, prints=True)


if __name__ == '__main__':
    sys.exit(main())
