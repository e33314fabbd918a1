"""Prints the learning rates of a run, for each parameter group and epoch, without training.

    python -m alexnet_jax.training --config configs/krizhevsky2012.py
        [--examples N] [--config.NAME=VALUE ...]

It prints one row per epoch, or one for several epochs in long runs, and one where a rate changes
within an epoch. Exit status: 0 done; 2 a bad command, setting or input.
"""

import sys

import jax
import jax.numpy as jnp

from alexnet_jax.experiment import build, config_file, settings
from alexnet_jax.experiment import config as configuration
from alexnet_jax.experiment.defaults import Config
from alexnet_jax.experiment.flags import SettingsParser
from alexnet_jax.runtime import command_line
from alexnet_jax.runtime.command_line import DONE
from alexnet_jax.runtime.errors import InputError, counted, shown
from alexnet_jax.training import schedule
from alexnet_jax.training.protocols import Group, Protocol

IMAGENET_EXAMPLES = 1_281_167  # ILSVRC-2012's training images
MOST_ROWS = 1000  # of epochs


def header(config: Config, protocol: Protocol, clock: schedule.Clock) -> list[str]:
    """Returns one line about the run, then one line per group."""
    decay = config.optimizer.weight_decay
    rule = f'ε {"inside" if protocol.rate_in_velocity else "outside"} the velocity'
    if protocol.adam is not None:
        rule = f'AdamW with β₂ {protocol.adam.beta2:g} and epsilon {protocol.adam.epsilon:g}'
    loss = '' if protocol.loss == 'softmax' else f', {protocol.loss} loss'
    passes = clock.epoch(clock.steps)
    scaled = f', ε for {protocol.reference_batch} images' if protocol.reference_batch else ''
    lines = [
        f'protocol {protocol.name} ({protocol.source}): ε {config.optimizer.learning_rate:g}'
        f'{scaled}, momentum {config.optimizer.momentum:g}, {rule}{loss}',
        f'{counted(clock.steps, "step")} of {counted(clock.batch_size, "image")},'
        f' {passes:.6g} epoch{"s" * (passes != 1)} of {clock.epoch_size}',
        '',
        f'{"group":16}{"ε times":>9}{"weight decay":>14}  parameters',
    ]
    for group in protocol.groups:
        what = 'weights and biases' if group.part == 'both' else group.part
        where = ' of ' + ', '.join(group.layers) if group.layers else ''
        lars = f', LARS {group.trust:g}' if group.trust else ''
        lines.append(
            f'{group.name:16}{group.rate:9g}{group.decay * decay:14g}  {what}{where}{lars}'
        )
    return [*lines, '']


def by_epoch(config: Config, protocol: Protocol, clock: schedule.Clock) -> list[str]:
    """Returns one line per epoch or change of rate."""
    count = int(clock.epoch(clock.steps)) + 1
    epochs = {clock.first_step(epoch) for epoch in range(0, count, -(-count // MOST_ROWS))}
    changes = [at for group in protocol.groups for at in schedule.changes(group.schedule, clock)]
    steps = sorted({*epochs, *changes})
    steps = [step for step in steps if step < clock.steps]
    rates = jax.vmap(
        lambda step: jnp.stack(_rates(config, protocol, clock, step, schedule.start()))
    )(jnp.asarray(steps))
    lines = [f'{"epoch":>8}{"step":>9}' + _columns(protocol.groups)]
    for step, row in zip(steps, rates.tolist(), strict=True):
        epoch = clock.epoch(step)
        begins = step == clock.first_step(int(epoch))
        name = str(int(epoch)) if begins else f'{epoch:.2f}'
        lines.append(f'{name:>8}{step:9}' + ''.join(f'{rate:>16.6g}' for rate in row))
    return lines


def by_plateau(config: Config, protocol: Protocol, clock: schedule.Clock) -> list[str]:
    """Returns one line per drop of the rate; the time of a drop depends on the validation error."""
    drops, patience = config.schedule.drops, config.schedule.patience
    lines = [
        f'divided by 10 after {counted(patience, "validation")} (one an epoch) without a lower top-1'
        f' error, {counted(drops, "time")}; at the next plateau the run ends',
        '',
        f'{"drops":>8}{"":9}' + _columns(protocol.groups),
    ]
    for done in range(drops + 1):
        plateau = schedule.start().replace(drops=jnp.int32(done))
        rates = _rates(config, protocol, clock, 0, plateau)
        lines.append(f'{done:8}{"":9}' + ''.join(f'{float(rate):>16.6g}' for rate in rates))
    return lines


def _columns(groups: tuple[Group, ...]) -> str:
    return ''.join(f'{group.name:>16}' for group in groups)


def _rates(config: Config, protocol: Protocol, clock: schedule.Clock, step, plateau):
    learning_rate, drops = config.optimizer.learning_rate, config.schedule.drops
    return schedule.rates(protocol, learning_rate, drops, clock, step, plateau)


def run(argv: list[str]) -> int:
    """Prints the learning rates of a run by layer and epoch; returns the exit status."""
    parser = SettingsParser(prog='python -m alexnet_jax.training', description=__doc__)
    parser.add_argument('--config', help='a Python file, executed to get the settings')
    parser.add_argument(
        '--examples', type=int,
        help='number of training images; default: that of the set, 1281167 for ImageNet',
    )  # fmt: skip
    options, overrides = parser.parse_with_settings(argv)
    config = config_file.load(options.config, overrides)
    protocol = configuration.protocol_of(config, configuration.network_of(config))
    examples = options.examples
    if examples is not None and not 1 <= examples <= settings.MOST:
        raise InputError(f'--examples is {shown(examples)}; allowed: from 1 to {settings.MOST}')
    if examples is None:
        imagenet = config.data.source.startswith('tfds:imagenet2012')
        examples = IMAGENET_EXAMPLES if imagenet else build.training_examples(config)
    clock = build.clock(config, examples)
    table = by_plateau if protocol.watches_plateaus else by_epoch
    print('\n'.join(header(config, protocol, clock) + table(config, protocol, clock)))
    return DONE


def main(argv: list[str] | None = None) -> int:
    """Runs the command line in this process and returns its exit status."""
    return command_line.run(run, argv, prints=True)


if __name__ == '__main__':
    sys.exit(main())
