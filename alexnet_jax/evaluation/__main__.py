"""Features, ensembles, tables and lesions of trained nets.

    alexnet-jax features MODEL [IMAGES ...] --layers conv5/pool,fc7/relu --out DIR
        [--form npy|safetensors|array_record] [--pool mean|max] [--type float32|float16]
        [--skip_bad] [--part I/N] [--config.NAME=VALUE ...]
    alexnet-jax ensemble RUN RUN ... --out DIR [--weights 1,1,2] [--config.NAME=VALUE ...]
    alexnet-jax ensemble --config FILE --seeds N --out DIR [...]
    alexnet-jax tables RUN ... --out DIR
    alexnet-jax lesions MODEL --layer conv5/relu --out DIR [--units each|columns|0,3,7]
        [--images N] [--config.NAME=VALUE ...]

MODEL is a workdir, a weight file or a name of published weights.

`features` keeps activations of images. IMAGES are image files, nested folders, lists of files
(.txt, one path per line) or one prepared set; by default, the images of the settings. Labels and
classes are ignored. An interrupted command resumes. N processes, here or on many machines, share
the images: each has the same command but for --part I/N, I from 0 on.

`ensemble` averages the probabilities of several nets: of workdirs, of saved predictions (--mode=eval
--config.eval.save=predictions), or of a configuration's runs with N seeds, which it trains first: DIR
then holds that ensemble alone (study.json), to which seeds and steps may be added. A net that ended
in NaN cannot be a member.

`tables` fills the paper's Tables 1 and 2 from evaluations of workdirs and ensembles. `lesions` prints
the errors of a net with units removed (docs/interventions.md).

Settings select the images: eval.split, eval.views, data.source, data.dir. As python -m
alexnet_jax.evaluation these commands have the same names. Exit status: as for alexnet_jax.main.
"""

import argparse
import os
import sys
from pathlib import Path

from alexnet_jax.experiment import config as configuration
from alexnet_jax.experiment import config_file, kept_config
from alexnet_jax.experiment.defaults import Config
from alexnet_jax.experiment.flags import SettingsParser
from alexnet_jax.runtime import command_line
from alexnet_jax.runtime.command_line import DONE, STOPPED
from alexnet_jax.runtime.errors import InputError, NotFiniteError
from alexnet_jax.runtime.stop import stop_requests
from alexnet_jax.studies import study


def parse(argv: list[str]) -> tuple[argparse.Namespace, dict[str, str]]:
    """Parses the command line into options and overridden settings."""
    parser = SettingsParser(prog='python -m alexnet_jax.evaluation', description=__doc__)
    commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')
    add = commands.add_parser('features', help='save activations of every image')
    add.add_argument('model', type=Path, metavar='MODEL', help='a workdir or a weight file')
    add.add_argument('images', nargs='*', metavar='IMAGES', help='files, folders, lists, a set')
    add.add_argument('--layers', '--activations', required=True, help='comma-separated names')
    add.add_argument('--out', type=Path, required=True, help='a folder')
    add.add_argument(
        '--form', choices=('npy', 'safetensors', 'array_record'), default='npy',
        help='kind of file (npy)',
    )  # fmt: skip
    add.add_argument(
        '--pool', choices=('mean', 'max'), default='', help='pool each map to one number'
    )
    add.add_argument(
        '--type', choices=('float32', 'float16'), default='float32', help='of the numbers (float32)'
    )
    add.add_argument('--skip_bad', action='store_true', help='skip and list unreadable images')
    add.add_argument('--part', metavar='I/N', help='part I of N of the images, I from 0 on (all)')
    add = commands.add_parser('ensemble', help='average the probabilities of several nets')
    add.add_argument('runs', type=Path, nargs='*', metavar='RUN', help='workdirs, or predictions')
    add.add_argument('--config', help='configuration of runs to train first, with --seeds')
    add.add_argument('--seeds', type=int, default=3, help='number of runs of --config (3)')
    add.add_argument('--weights', default='', help='comma-separated weights (equal)')
    add.add_argument('--out', type=Path, required=True, help='a folder')
    add = commands.add_parser('tables', help="the paper's Tables 1 and 2")
    add.add_argument('runs', type=Path, nargs='+', metavar='RUN', help='workdirs and ensembles')
    add.add_argument('--out', type=Path, required=True, help='a folder')
    add = commands.add_parser('lesions', help='errors with units removed')
    add.add_argument('model', type=Path, metavar='MODEL', help='a workdir or a weight file')
    add.add_argument('--layer', required=True, help='an activation, such as conv5/relu')
    add.add_argument(
        '--units', default='each', help='each, columns, or comma-separated numbers (each)'
    )
    add.add_argument(
        '--images', type=int, default=0, help='number of random images of the split (all)'
    )
    add.add_argument('--out', type=Path, required=True, help='a folder')
    options, overrides = parser.parse_with_settings(argv)
    if options.command == 'lesions' and options.images < 0:
        parser.error(f'--images is {options.images}; allowed: from 0, which is all of them')
    if options.command == 'ensemble' and bool(options.runs) == (options.config is not None):
        parser.error('ensemble needs either RUNs or --config')
    if overrides and options.command == 'tables':
        parser.error('settings (--config.NAME=VALUE) do not go with tables')
    return options, overrides


def parse_weights(text: str, members: int) -> list[float]:
    """Parses '1,1,2' into numbers, and '' into equal weights of 1.

    Raises:
      InputError: not a number above 0 for each member.
    """
    return study.numbers_of(
        '--weights', text or ','.join(['1'] * members), f'a number above 0 for each of {members} members',
        lambda numbers: len(numbers) == members and all(0 < x < float('inf') for x in numbers),
    )  # fmt: skip


def run_features(options: argparse.Namespace, overrides: dict[str, str]) -> int:
    """Writes activations of images to a folder; returns the exit status."""
    command_line.before_jax()
    from alexnet_jax.evaluation import feature_parts
    from alexnet_jax.experiment import features, trained

    layers = tuple(study.split_names('--layers', options.layers))
    request = features.Request(layers, options.pool, options.type)
    part = None if options.part is None else feature_parts.parse(options.part)
    with stop_requests() as stop_requested:
        model, config = trained.open_any(options.model, overrides)
        source = features.open_source(options.images, config, options.skip_bad)
        print(features.keep(
            model, source, config, request, options.out, options.form, stop_requested, part
        ))  # fmt: skip
    return DONE


def members_of(
    options: argparse.Namespace, overrides: dict[str, str]
) -> list[tuple[Path, Config | None]]:
    """Returns each member's folder, and its configuration; None for saved predictions.

    Raises:
      InputError: an invalid configuration; too many seeds.
    """
    if options.config is not None:
        base = config_file.load(options.config, overrides)
        seeds = study.seeds_from(base, options.seeds)
        return [
            (options.out / f'seed-{seed}', configuration.changed(base, {'seed': seed}))
            for seed in seeds
        ]
    return [
        (
            path,
            kept_config.of_workdir(path, overrides) if (path / 'config.json').exists() else None,
        )
        for path in options.runs
    ]


def require_ensemble(members: list[tuple[Path, Config | None]]) -> None:
    """Checks before any work that the members are different, and evaluated on the same images.

    It compares the facts known so far; `ensemble.average` checks the rest.

    Raises:
      InputError: they are not.
    """
    from alexnet_jax.evaluation import arrays, ensemble
    from alexnet_jax.experiment import results

    absolute = configuration.absolute_source  # older workdirs may hold a relative path
    abouts, places = {}, {}
    for path, config in members:
        place = os.path.realpath(path)
        if place in places:
            raise InputError(f'{path} and {places[place]} are the same folder; allowed: each once')
        places[place] = path
        abouts[str(path)] = (
            {'set': results.set_of(absolute(config)), 'views': config.eval.views}
            if config
            else arrays.read_about(path)
        )
    ensemble.require_alike(abouts)


def train_members(options: argparse.Namespace, configs: dict[str, Config]) -> bool:
    """Trains the members of an ensemble; False if it was stopped on request.

    Raises:
      InputError: as `study.conduct`.
      NotFiniteError: one ended in NaN; its earlier checkpoints are not used.
    """
    first = next(iter(configs.values()))
    asking = study.asked('ensemble', first, seeds=len(configs))
    results = study.conduct(options.out, asking, configs)
    if results is None:
        return False
    for name, result in results.items():
        if 'fault' in result:
            raise NotFiniteError(
                f'{options.out / name} is no member: {result["fault"]}\n'
                'There is no ensemble of these seeds; a lower optimizer.learning_rate may help',
                0,
            )
    return True


def run_ensemble(options: argparse.Namespace, overrides: dict[str, str]) -> int:
    """Trains or opens the members of an ensemble and evaluates their mean; returns the exit status."""
    members = members_of(options, overrides)
    require_ensemble(members)
    weights = parse_weights(options.weights, len(members))
    command_line.before_jax()
    from alexnet_jax.experiment import trained, workdir

    for path, _ in members if not options.config else []:
        workdir.refuse_not_finite(path)
    configs = {path.name: config for path, config in members if config}
    if options.config and not train_members(options, configs):
        return STOPPED
    print(trained.average(members, weights, options.out))
    return DONE


def run_tables(options: argparse.Namespace) -> int:
    """Writes the paper's Tables 1 and 2 with the runs' errors; returns the exit status."""
    from alexnet_jax.experiment import results
    from alexnet_jax.studies import tables

    rows = [row for path in options.runs for row in tables.rows_of(str(path), results.every(path))]
    filled = tables.filled(rows)
    page = '\n'.join([
        '# The paper’s Tables 1 and 2', '',
        'Errors are fractions; in brackets, 95 % intervals. A star: pre-trained on another set.',
        '', tables.markdown(filled),
    ])  # fmt: skip
    results.write_text(options.out / 'tables.md', page)
    results.write_json(options.out / 'tables.json', tables.tree(filled))
    print(page)
    return DONE


def run_lesions(options: argparse.Namespace, overrides: dict[str, str]) -> int:
    """Evaluates a net with units removed; returns the exit status."""
    command_line.before_jax()
    from alexnet_jax.experiment import unit_lesions

    layer, units = options.layer, options.units
    print(unit_lesions.keep(options.model, overrides, layer, units, options.images, options.out))
    return DONE


def run(argv: list[str]) -> int:
    """Runs the command and returns its exit status."""
    options, overrides = parse(argv)
    if options.command == 'lesions':
        return run_lesions(options, overrides)
    if options.command == 'features':
        return run_features(options, overrides)
    if options.command == 'ensemble':
        return run_ensemble(options, overrides)
    return run_tables(options)


def main(argv: list[str] | None = None) -> int:
    """Runs the command line in this process and returns its exit status."""
    return command_line.run(run, argv)


if __name__ == '__main__':
    sys.exit(main())
