"""Studies: several runs in one folder, which are compared.

study.json has the arguments of the first call. A later call may add names or seeds; other changes are
errors.
"""

import dataclasses
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from alexnet_jax.experiment import config as configuration
from alexnet_jax.experiment.defaults import Config
from alexnet_jax.experiment.flags import SettingsParser
from alexnet_jax.experiment.results import write_json, write_text
from alexnet_jax.experiment.settings import MOST, RATES, SETTINGS, normalized
from alexnet_jax.network.layers import Architecture
from alexnet_jax.runtime import command_line, files
from alexnet_jax.runtime.command_line import DONE
from alexnet_jax.runtime.errors import InputError, nearest, plain, shown
from alexnet_jax.runtime.stop import stop_requests

STUDY = 'study.json'
MOST_SEEDS = 1000
LONGEST_NAME = 200  # characters; file systems allow 255 bytes
# Free settings that affect the result of a run, but not its steps.
LENGTH = ('train.epochs', 'train.steps')
COUNT = (*LENGTH, 'eval.split', 'eval.views')
# Settings that no study uses, except that ablations use the second.
UNUSED = {
    'eval.step': 'the last step of every run is evaluated',
    'start.from': 'every run starts with random values',
}
Row = dict[str, Any]
TrainAll = Callable[..., dict[str, Row] | None]  # `runs.train_all` without its folder


def result_settings(config: Config) -> dict[str, Any]:
    """Returns the settings that affect the result of a run, in the form of JSON."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in configuration.flat(configuration.settled(config)).items()
        if not SETTINGS[name].free or name in COUNT
    }


def computed(config: Config) -> list[Any]:
    """Returns the settings that affect the result of a run, without those that have no effect here.

    It is equal for configurations with equal results.
    """
    net = table_of(config)
    protocol = configuration.base_protocol(config)
    source = config.data.source
    kept = {'network.compute', 'network.precision'}
    without = {name for name in SETTINGS if name.startswith('network.')} - kept
    without |= {RATES, 'start.layers' if not config.start['from'] else ''}
    without |= {'train.epochs' if config.train.steps else ''}
    if not config.data.color_std:
        without |= {'data.color_scale', 'data.color_epochs'}
    if not protocol.watches_plateaus:
        without |= {'schedule.patience', 'schedule.drops'}
    if source != 'synthetic':
        without |= {'data.synthetic_examples', 'data.synthetic_classes'}
    if source in ('digits', 'patterns', 'synthetic'):  # whose images are generated as squares
        without |= {'data.resize'}
    if config.data.record_size == net.input_size:  # there is one crop
        without |= {'data.random_crop'}
    if source in ('digits', 'patterns'):  # whose images are never mirrored
        without |= {'data.mirror'}
    settings = {
        name: value for name, value in result_settings(config).items() if name not in without
    }
    rates = configuration.flat(config)[RATES]
    factors = {layer: factor for layer, factor in rates.items() if factor != 1}
    return [net, factors, settings]


def table_of(config: Config) -> Architecture:
    """Returns the net of a configuration without its name."""
    return dataclasses.replace(configuration.network_of(config), name='')


def names_of(option: str, text: str, allowed: Collection[str]) -> list[str]:
    """Returns the names of a comma-separated text; raises as `split_names`, and for other names."""
    names = split_names(option, text)
    for name in names:
        if name not in allowed:
            raise InputError(
                f'{option} has {shown(name)}; the nearest is {nearest(name, allowed)};'
                f' allowed: {", ".join(allowed)}'
            )
    return names


def split_names(option: str, text: str) -> list[str]:
    """Returns the words of a comma-separated text.

    Raises:
      InputError: there are none, or one occurs twice.
    """
    names = [name.strip() for name in text.split(',') if name.strip()]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f'{option} has {shown(name)} twice; allowed: each once')
    if not names:
        raise InputError(f'{option} is empty; allowed: comma-separated names')
    return names


def numbers_of(
    option: str, text: str, allowed: str, allows: Callable[[list[float]], bool] = bool
) -> list[float]:
    """Returns the numbers of a comma-separated text.

    Args:
      allowed: a description of the numbers that `allows` accepts.

    Raises:
      InputError: one is not a number, or they are not allowed.
    """
    try:
        numbers = [float(number) for number in text.split(',')]
    except ValueError:
        numbers = []
    if not numbers or not allows(numbers):
        raise InputError(f'{option} is {shown(text)}; allowed: {allowed}')
    return numbers


def seeds_from(base: Config, count: int, least: int = 1) -> list[int]:
    """Returns `count` seeds, starting with that of the configuration.

    Raises:
      InputError: the count is below `least` or too large, or the last seed is too large.
    """
    if not least <= count <= MOST_SEEDS:
        raise InputError(f'--seeds is {count}; allowed: from {least} to {MOST_SEEDS}')
    first = base.seed
    if first + count - 1 > MOST:
        raise InputError(
            f'seed is {first} and --seeds {count}: the last seed would be {first + count - 1};'
            f' allowed: at most {MOST}, so that seed is at most {MOST - count + 1}'
        )
    return list(range(first, first + count))


def require_not_given(overrides: Collection[str], instead: Mapping[str, str]) -> None:
    """Checks that the command line has no setting that the study itself sets.

    Args:
      instead: by setting, the advice for the message.

    Raises:
      InputError: it has one.
    """
    faults = [
        f'--config.{name} is given, but this command sets {name} itself; {advice}'
        for name, advice in instead.items()
        if name in overrides
    ]
    if faults:
        raise InputError('\n'.join(faults))


def require_defaults(base: Config, names: Collection[str] = tuple(UNUSED)) -> None:
    """Checks that settings of `UNUSED` have their defaults.

    Raises:
      InputError: one has another value.
    """
    faults = [
        f'{name} is {shown(base[name])}; allowed: {SETTINGS[name].default!r}, as {UNUSED[name]}'
        for name in names
        if base[name] != SETTINGS[name].default
    ]
    if faults:
        raise InputError('\n'.join(faults))


def changed(base: Config, values: Mapping[str, Any], label: str) -> Config:
    """Returns a copy of a configuration with other values.

    Raises:
      InputError: it is invalid; each line begins with the label.
    """
    config = configuration.changed(base, values)
    faults = configuration.validate(config)
    if faults:
        raise InputError('\n'.join(f'{label}: {fault}' for fault in faults))
    return config


def asked(command: str, base: Config, own: Collection[str] = (), **options: Any) -> dict[str, Any]:
    """Returns the arguments of a call in the form of study.json.

    Args:
      own: settings that the study itself sets.
      options: lists of names or numbers, which a later call may extend, and the number of seeds, which a
        later call may raise.
    """
    config = {
        name: None if name in own else value
        for name, value in result_settings(base).items()
        if name not in COUNT
    }
    return {'command': command, 'config': config, 'options': options}


def require_same_study(folder: Path, asking: Mapping[str, Any]) -> None:
    """Checks that a folder is new or has this study.

    Raises:
      InputError: it has another study, or its study.json cannot be read.
    """
    path = folder / STUDY
    try:
        kept = files.read_json(path)
        if not isinstance(kept, dict):
            raise ValueError('it is not a study')
        found = _differences(kept, asking)
    except (FileNotFoundError, NotADirectoryError):
        return
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise InputError(
            f'{plain(path)} cannot be read: {plain(error)}; use another folder'
        ) from error
    if found:
        raise InputError(
            f'{plain(folder)} has another study: {"; ".join(found)}\n'
            'A folder has one study, to which names and seeds may be added; use another folder or the'
            ' same arguments'
        )


def _differences(kept: Mapping[str, Any], asking: Mapping[str, Any]) -> list[str]:
    if kept.get('command') != asking['command']:
        return [f'it is of {shown(kept.get("command"))}, not of {asking["command"]!r}']
    before = same_form(kept.get('config', {}))
    defaults = same_form({name: setting.default for name, setting in SETTINGS.items()})
    options = kept.get('options', {})
    found = [
        f'{name} was {shown(was)}, now {value!r}'
        for name, value in asking['config'].items()
        if (was := before.get(name, defaults[name])) != value
    ]
    for name, value in asking['options'].items():
        was = options.get(name)
        if isinstance(value, list):
            missing = [item for item in was if item not in value]
            if missing:
                found.append(f'--{name} had {", ".join(map(plain, missing))}, too')
        elif was > value:
            found.append(f'--{name} was {shown(was)}, now {value!r}')
    return found


def same_form(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns stored settings of a study in the form of `result_settings`.

    The study may be one of version 0.1. Relative paths to images become absolute.
    """
    values = {
        name: list(value) if isinstance(value := normalized(name, kept), tuple) else value
        for name, kept in values.items()
        if name in SETTINGS
    }
    if isinstance(values.get('data.source'), str):
        values['data.source'] = configuration.absolute(values['data.source'])
    return values


def parser_of(command: str, description: str | None, of: str, seeds: str, **more) -> SettingsParser:
    """Returns a parser of the common options of the studies.

    Args:
      of: the help of --config. seeds: the noun for --seeds.
    """
    parser = SettingsParser(
        prog=f'python -m alexnet_jax.{command}', description=description, **more
    )
    parser.add_argument('--config', required=True, help=of)
    parser.add_argument('--workdir', type=Path, required=True, help='folder of all the runs')
    parser.add_argument('--seeds', type=int, default=3, help=f'{seeds} (%(default)s)')
    return parser


def conduct(
    folder: Path,
    asking: Mapping[str, Any],
    configs: Mapping[str, Config],
    work: Callable[[TrainAll, Callable[[], bool]], Any] | None = None,
    ends_early: bool = False,
) -> Any:
    """Checks a study and its folder, writes study.json and trains the runs.

    Args:
      configs: the configurations of all runs, which are checked before any work.
      work: receives a function that trains configurations and returns results by name, and a function that
        returns whether a stop was requested; it may train a part of the runs and measure them.
      ends_early: whether runs may end before their last step.

    Returns:
      the value of `work`, by default the results of all runs; None after a stop request.

    Raises:
      InputError: as `require_same_study`, before JAX starts; as `runs.check` and `runs.train_all`.
      StorageError: study.json cannot be written.
    """
    require_same_study(folder, asking)
    command_line.before_jax()
    from alexnet_jax.experiment import build
    from alexnet_jax.studies import runs  # JAX starts here, after the settings were checked

    for config in configs.values():
        build.prepare_own_source(config)
    runs.check(configs, folder, ends_early)
    write_json(folder / STUDY, asking)
    with stop_requests() as stop_requested:
        if work is None:
            return runs.train_all(configs, folder, stop_requested)

        def train_all(some: Mapping[str, Config], **options: Any) -> dict[str, Row] | None:
            return runs.train_all(some, folder, stop_requested, **options)

        return work(train_all, stop_requested)


def excluded(faults: Mapping[str, str]) -> list[str]:
    """Returns a line for each run that ended in NaN."""
    return [f'{name} is excluded: {fault}' for name, fault in faults.items()]


def publish(folder: Path, content: Mapping[str, Any], text: str) -> int:
    """Writes the results of a study, prints a text and writes the page.

    Args:
      content: texts, and trees for JSON, by file name.

    Raises:
      StorageError: they cannot be written.
    """
    from alexnet_jax.report import several

    for name, tree in content.items():
        write = write_json if name.endswith('.json') else write_text
        write(folder / name, tree)
    print(text)
    print(several.make(folder))
    return DONE
