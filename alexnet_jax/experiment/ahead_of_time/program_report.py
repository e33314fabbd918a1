"""The lines that the compile command prints."""

from collections.abc import Sequence

from alexnet_jax.experiment import config as configuration
from alexnet_jax.experiment.ahead_of_time import default_meshes, estimates, kernels
from alexnet_jax.experiment.ahead_of_time.programs import Program
from alexnet_jax.experiment.ahead_of_time.targets import Request
from alexnet_jax.network.chips import Chip
from alexnet_jax.network.communication import FLOAT, Transfer, forward_traffic, step_traffic
from alexnet_jax.runtime import errors
from alexnet_jax.training import compiled_collectives, throughput


def header(request: Request) -> list[str]:
    """Returns lines on what is compiled."""
    config, (data, column) = request.config, request.mesh
    return [
        f'network {configuration.network_of(config).name}, {request.classes} classes, for'
        f' {request.target.name}: mesh {data}×{column} (data × column), compute'
        f' {config.network.compute}, precision {config.network.precision}; evaluation'
        f' {config.eval.compute}'
    ]


def program(request: Request, found: Program) -> list[str]:
    """Returns the lines on one program; figures are of one device."""
    head = f'{found.name}: {errors.counted(found.images, "image")}' if found.images else found.name
    if found.compiled is None:
        return ['', head, f'  does not fit: {found.refusal}']
    lines = ['', f'{head}, compiled in {found.seconds:.0f} s']
    chip = request.target.chip
    lines += _memory(estimates.memory(found.compiled), chip)
    work = estimates.work(found.compiled, request.target.platform)
    lines += _work(request, found, work)
    lines += _collectives(request, found)
    if found.scope in ('step', 'update') and chip is not None:
        lines += ['', *_default_meshes(request, found.kind, chip)]
    return lines


def batch(images: int, step: Sequence[Program], chip: Chip) -> str:
    """Returns the line on a batch that was tried: the memory of the largest of its programs."""
    compiled = [found.compiled for found in step if found.compiled is not None]
    if len(compiled) < len(step):
        return f'  {errors.counted(images, "image")}: does not fit (according to the compiler)'
    total = max(estimates.memory(program).total for program in compiled)
    return f'  {errors.counted(images, "image")}: {total / 1e6:,.1f} MB, {_share(total, chip)}'


def _memory(memory: estimates.Memory, chip: Chip | None) -> list[str]:
    parts = ('arguments', 'results', 'temporary', 'program')
    each = ', '.join(f'{name} {getattr(memory, name) / 1e6:,.1f}' for name in parts)
    line = f'  memory, MB: {each}; total {memory.total / 1e6:,.1f}'
    return [line if chip is None else f'{line}, {_share(memory.total, chip)}']


def _share(total: float, chip: Chip) -> str:
    fits = 'fits' if total <= chip.memory else 'does not fit'
    return f'{total / chip.memory:.0%} of the chip: {fits}'


def _work(request: Request, found: Program, work: estimates.Work) -> list[str]:
    """Returns the counts, and the time of the net's products and of the bytes by the data sheet."""
    chip, parts = request.target.chip, []
    if work.flops:
        parts.append(f'{work.flops / 1e9:,.4g} GFLOP')
    if work.accessed:
        parts.append(f'{work.accessed / 1e9:,.3g} GB read and written')
    if work.cycles:
        parts.append(f'{work.cycles / 1e6:,.2f} million cycles')
    source = 'by the compiler: ' if work.kernels is None else f'kernels: {_kinds(work.kernels)}; '
    lines = [f'  {source}{", ".join(parts)}'] if parts else []
    if chip is None:
        return lines
    net = configuration.network_of(request.config)
    of_image = throughput.forward_flop if found.scope == 'forward' else throughput.flop_per_image
    products = of_image(net, request.classes) * found.images
    products /= request.target.devices * chip.products[found.kind]
    times = [f'products ({found.kind}) {1e3 * products:.3g}'] if products else []
    if work.accessed:
        times.append(f'these bytes {1e3 * work.accessed / chip.bandwidth:.3g}')
    line = f'  ms by the data sheet: {", ".join(times)}'
    if work.cycles and chip.clock:
        line += f"; by the compiler's cycles {1e3 * work.cycles / chip.clock:.3g}"
    return [*lines, line]


def _kinds(counts: dict[str, int]) -> str:
    return ', '.join(errors.counted(counts[kind], kind) for kind in kernels.KINDS if kind in counts)


def _collectives(request: Request, found: Program) -> list[str]:
    data, column = request.mesh
    text = found.compiled and found.compiled.as_text()
    if data * column == 1 or not text:
        return []
    counted = compiled_collectives.count(text, request.mesh)
    least = _least_sent(request, found)
    table = compiled_collectives.collectives_table(counted, least)
    lines = ['  bytes sent by each device', *(f'  {line}' for line in table)]
    early = compiled_collectives.sent_early(text, request.mesh)
    if early is not None:
        lines.append(
            '  gradient bytes whose all-reduce starts before the last backward convolution:'
            f' {early:.1%}'
        )
    return lines


def _least_sent(request: Request, found: Program) -> list[Transfer]:
    """Returns the least that a program has to send. Of a step in parts, each part exchanges maps
    and sums its scores, and the update sums the gradients."""
    config, net = request.config, configuration.network_of(request.config)
    size = 2 if found.kind == 'bfloat16' else FLOAT
    if found.scope == 'forward':
        return forward_traffic(net, request.classes, request.mesh, found.images, size)
    exchange = config.network.exchange
    transfers = step_traffic(net, request.classes, request.mesh, found.images, exchange, size)
    if found.scope == 'step':
        return transfers
    sums = [one for one in transfers if one.axis == 'data' and one.what != 'scores']
    return sums if found.scope == 'update' else [one for one in transfers if one not in sums]


def _idle(row: default_meshes.Row) -> str:
    left = row.devices - row.mesh[0] * row.mesh[1]
    return f'  {left} idle' if left else ''


def _default_meshes(request: Request, kind: str, chip: Chip) -> list[str]:
    config = request.config
    rows = default_meshes.table(
        configuration.network_of(config), request.classes, config.data.batch_size,
        config.network.exchange, config.train.micro_batches, chip, kind,
    )  # fmt: skip
    lines = [
        f'  default mesh for {config.data.batch_size:,} images per step, minimum ms by calculation',
        f'  {"devices":>7}{"mesh":>9}{"computing":>11}{"sending":>9}{"efficiency":>12}',
    ]
    for row in rows:
        mesh = f'{row.mesh[0]}×{row.mesh[1]}'
        lines.append(
            f'  {row.devices:7}{mesh:>9}{1e3 * row.computing:11.3g}{1e3 * row.sending:9.3g}'
            f'{row.efficiency:12.0%}{_idle(row)}'
        )
    most = default_meshes.most_useful_devices(rows)
    return [*lines, f'  an efficiency of a half or more up to {most} device{"s" * (most > 1)}']
