"""Compiles a configuration's programs for absent accelerators, and prints their needs.

    alexnet-jax compile --config imagenet --target tpu:v5e:2x2
        [--programs train,eval,predict] [--classes 1000] [--largest_batch] [--config.NAME=VALUE ...]

Targets: slices of TPUs (tpu:v5e:2x2, tpu:v4:2x2x1, tpu:v5p:2x2x1, tpu:v6e:2x2, up to 256 chips),
GPUs of one host (gpu:a100, gpu:h100:4) and CPU devices (cpu:4). For each program it prints the
memory of a device and whether the chip has it, the compiler's FLOPs, bytes and cycles beside the
time by the chip's data sheet (for GPUs, kernels and their bytes), and the collectives beside the
least that the net's table requires; for the training step also the default mesh on up to 256
devices. With train.micro_batches it compiles one part and the update. Nothing is run and no image
is read; images that data.placement keeps on the devices are not counted. The compilers come with
jax[tpu] and jax[cuda12] (docs/accelerators.md).

Exit status: 0 done; 1 a program that does not fit; 2 a bad command, setting or input.
"""

import argparse
import sys

from alexnet_jax.data import patterns
from alexnet_jax.data.prepare import digits
from alexnet_jax.experiment import config as configuration
from alexnet_jax.experiment import config_file
from alexnet_jax.experiment.ahead_of_time import targets
from alexnet_jax.experiment.ahead_of_time.targets import Request, Target
from alexnet_jax.experiment.defaults import Config
from alexnet_jax.experiment.flags import SettingsParser
from alexnet_jax.network import communication
from alexnet_jax.runtime import command_line
from alexnet_jax.runtime.command_line import DONE, FAULT
from alexnet_jax.runtime.errors import InputError, counted, nearest, shown

PROGRAMS = ('train', 'eval', 'predict')


def parse(argv: list[str]) -> tuple[argparse.Namespace, Request]:
    """Parses the command line into options and the request."""
    parser = SettingsParser(prog='alexnet-jax compile', description=__doc__)
    parser.add_argument('--config', help='a Python file, run to get the settings')
    parser.add_argument('--target', required=True, help='tpu:v5e:2x2, gpu:h100:4, cpu:4, ...')
    parser.add_argument('--programs', default=','.join(PROGRAMS), help='comma-separated (all)')
    parser.add_argument(
        '--classes', type=int, help='1000, or those of a set that is made here (digits, ...)'
    )
    parser.add_argument('--largest_batch', action='store_true',
                        help='also find the largest batch of the training step that fits')  # fmt: skip
    options, overrides = parser.parse_with_settings(argv)
    config = config_file.load(options.config, overrides)
    if options.classes is None:
        options.classes = classes_of(config)
    if not 2 <= options.classes <= 10**6:
        raise InputError(f'--classes is {options.classes}; allowed: from 2 to 1000000')
    programs = list(dict.fromkeys(name.strip() for name in options.programs.split(',')))
    for name in programs:
        if name not in PROGRAMS:
            raise InputError(
                f'--programs has {shown(name)}; the nearest is {nearest(name, PROGRAMS)};'
                f' allowed: {", ".join(PROGRAMS)}'
            )
    target = targets.parse(options.target)
    if options.largest_batch and target.chip is None:
        raise InputError('--largest_batch is given; it goes with a --target of TPUs or GPUs')
    mesh = mesh_on(config, options.classes, target)
    return options, Request(config, options.classes, target, mesh, programs)


def classes_of(config: Config) -> int:
    """Returns the number of classes of sets that are made here, else ImageNet's."""
    own = {
        'digits': len(digits.NAMES),
        'patterns': len(patterns.CLASSES),
        'synthetic': config.data.synthetic_classes,
    }
    return own.get(config.data.source, 1000)


def mesh_on(config: Config, classes: int, target: Target) -> tuple[int, int]:
    """Returns (data, column): as configured, or the default for the target's devices.

    Raises:
      InputError: no such mesh takes all the devices.
    """
    asked, net = (config.mesh.data, config.mesh.column), configuration.network_of(config)
    mesh = communication.best_mesh(
        net, classes, target.devices, config.data.batch_size, config.network.exchange,
        config.train.micro_batches, asked,
    )  # fmt: skip
    if mesh[0] * mesh[1] != target.devices or config.data.batch_size % mesh[0]:
        sizes = {
            'data.batch_size': config.data.batch_size,
            'mesh.data': asked[0],
            'mesh.column': asked[1],
        }
        given = ', '.join(f'{name} {size}' for name, size in sizes.items() if size)
        raise InputError(
            f'network {net.name} with {given} has no mesh of the'
            f' {counted(target.devices, "device")} of --target {target.name}; allowed: a'
            f' mesh.data × mesh.column of {target.devices}, and a batch size that mesh.data divides'
        )
    return mesh


def run(argv: list[str]) -> int:
    """Compiles the programs and prints their memory and collectives; returns the exit status."""
    options, request = parse(argv)
    targets.before_jax(request.target)
    from alexnet_jax.experiment.ahead_of_time import program_report, programs  # JAX starts: last
    from alexnet_jax.network import device_mesh

    net = programs.net_of(request.config, request.classes)
    mesh = device_mesh.mesh_of(targets.devices(request.target), request.mesh[1])
    print('\n'.join(program_report.header(request)), flush=True)
    fits = []
    for name in request.programs:
        for compiled in programs.compile_programs(name, request.config, net, mesh):
            print('\n'.join(program_report.program(request, compiled)), flush=True)
            fits.append(compiled.fits(request.target.chip))
    if options.largest_batch and request.target.chip:
        print('\nbatches, doubled until one does not fit', flush=True)
        for images, step in programs.with_larger_batches(request.config, net, mesh):
            print(program_report.batch(images, step, request.target.chip), flush=True)
            if not all(program.fits(request.target.chip) for program in step):
                break
    return DONE if all(fits) else FAULT


def main(argv: list[str] | None = None) -> int:
    """Runs the command line in this process and returns its exit status."""
    return command_line.run(run, argv, prints=True)


if __name__ == '__main__':
    sys.exit(main())
