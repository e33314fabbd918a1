"""Every command and snippet that the pages show is run here, or in a test named here, or the
page says what it needs that is not at hand."""

import contextlib
import importlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from alexnet_jax import main
from alexnet_jax.data.prepare import __main__ as prepare
from alexnet_jax.runtime.command_line import DONE
from alexnet_jax.runtime.command_line import run as run_command
from tests.data.photographs import write_classes
from tests.weights import authors, forms

ROOT = Path(__file__).parents[1]
LOG = Path('docs/LOG.md')  # what was tried, not what to try
PAGES = [
    Path('README.md'),
    Path('CONTRIBUTING.md'),
    *sorted(set(Path('docs').glob('*.md')) - {LOG}),
]
PAGES += [Path(folder, 'README.md') for folder in ('configs', 'launch', 'benchmarks')]

# Blocks that are no commands, by how they begin.
TEXTS = ('source -> prepare', 'alexnet_jax/', 'training: small on digits')

# Among the words of a sentence, these begin a command if another word follows.
PROGRAMS = r'python3?|pytest|pip|ruff|tensorboard|sbatch|scancel|kubectl|launch/\S+\.sh'


class Rule(NamedTuple):
    """What becomes of the commands that `command` matches, by one of three at least.

    run: words to put after it, that make it short; it is run here.
    test: 'FILE::WORD', where it is run otherwise; the word stands there.
    needs: the page has the words 'needs' and this: in a comment at the command or above it, or,
      of a command within a sentence, in its section.
    """

    command: str
    run: str | None = None
    test: str = ''
    needs: str = ''
    slow: bool = False


ANY = '.*'
MAIN = 'python -m alexnet_jax.main '
DIGITS = MAIN + '--config configs/digits.py '
LAUNCH = 'tests/test_launch.py::'
SCALING = 'tests/studies/test_tables.py::test_the_page_on_scaling_shows_what_the_commands_print'
SHORT = '--config.network.width=0.5 --config.train.steps=2 --config.data.dir={data}'
SHORT += ' --config.train.report=off'
TINY = '--config.network.width=0.125 --config.network.input_size={size}'
TINY_RUN = f'{TINY} --config.data.batch_size=4 --config.train.steps=1 --config.train.report=off'
MADE_UP = '--config.data.source=synthetic --config.data.synthetic_examples=20'
BENCH = '--width=0.125 --size=67 --rounds=1'
RULES = [
    Rule(DIGITS + '--workdir runs/digits', SHORT),
    Rule(MAIN + '--workdir (RUN|runs/digits) --mode=(eval|predict|report)' + ANY, ''),
    Rule(MAIN + '--help', ''),
    Rule('XLA_FLAGS=.*=4 ' + DIGITS + ANY, SHORT, slow=True,
         test='tests/test_main.py::test_a_mesh_of_four_from_the_command_line'),
    Rule(MAIN + '--config configs/imagenet.py --config.data.source=synthetic' + ANY,
         f'{TINY_RUN} {MADE_UP}'.format(size=67)),
    Rule(MAIN + '--config configs/imagenet.py --config.data.source=folder:' + ANY,
         TINY_RUN.format(size=67)),
    Rule(MAIN + '--config configs/NAME.py --workdir runs/NAME',
         f'{TINY_RUN} {MADE_UP}'.format(size=99)),
    Rule(MAIN + '--config configs/six_conv.py' + ANY, needs='ImageNet',
         test='tests/experiment/test_exchange.py::test_training_starts_from_an_imported_net'),
    Rule(MAIN + ANY + '--processes=auto', needs='ImageNet',
         test='tests/runtime/test_multihost.py::test_what_slurm_tells_its_tasks_is_enough'),
    Rule(DIGITS + ANY + '--processes=2 --process=0' + ANY,
         test='tests/runtime/test_multihost.py::test_two_processes_stop_on_request_and_one_goes_on'),
    Rule('launch/local.sh 2 ' + ANY, SHORT, slow=True,
         test=LAUNCH + 'test_local_gives_each_process_its_arguments_and_environment'),
    Rule('sbatch ' + ANY, needs='many hosts', test=LAUNCH + 'test_slurm_queues_again_what_can_go_on'),
    Rule(ANY + 'launch/tpu_vm.sh ' + ANY, needs='many hosts',
         test=LAUNCH + 'test_tpu_starts_again_what_can_go_on'),
    Rule('scancel JOB|kubectl ' + ANY, needs='many hosts'),

    Rule('python -m alexnet_jax.report RUN RUN --out DIR', ''),
    Rule('python -m alexnet_jax.report runs/ensemble/' + ANY,
         test='tests/report/test_several.py::test_runs_beside_each_other'),
    Rule('python -m alexnet_jax.report runs/figure1',
         test='tests/report/test_several.py::test_figure1_draws_each_activation_at_its_own_rate'),
    Rule('python -m alexnet_jax.report runs/ablations',
         test='tests/report/test_several.py::test_ablations_show_differences_beside_the_published'),
    Rule('python -m alexnet_jax.specialization --config configs/imagenet.py' + ANY, needs='ImageNet',
         test='tests/studies/test_specialization.py::test_from_the_command_line'),
    Rule('python -m alexnet_jax.specialization ' + ANY, '--nets patterns --seeds 2'
         ' --config.train.steps=3 --config.network.width=0.5', slow=True,
         test='tests/studies/test_specialization.py::test_from_the_command_line'),
    Rule('tensorboard --logdir runs', needs='TensorBoard',
         test='tests/training/test_trackers.py::test_its_own_reader_finds_what_was_written'),
    Rule('python -m alexnet_jax.evaluation ensemble --config' + ANY, f'--seeds 1 {SHORT}'),
    Rule('python -m alexnet_jax.evaluation ensemble RUN1' + ANY,  # which has to be different runs
         test='tests/experiment/test_trained.py::test_an_ensemble_beside_its_members'),
    Rule('python -m alexnet_jax.evaluation (tables|features) ' + ANY, ''),
    Rule(r'python -m alexnet_jax.weights import \S+\.pth ' + ANY, TINY.format(size=95),
         needs='a download'),
    Rule(r'python -m alexnet_jax.weights import \S+\.caffemodel ' + ANY, TINY.format(size=99),
         needs='a download'),
    Rule('python -m alexnet_jax.weights import FILE ' + ANY,
         f'--classes names.txt {TINY}'.format(size=95)),
    Rule('python -m alexnet_jax.weights (export|push|pull) ' + ANY, ''),
    Rule('python -m alexnet_jax.data.prepare --source folder:' + ANY, '--workers=1'),
    Rule('python -m alexnet_jax.data.prepare --help', ''),
    Rule('python -m alexnet_jax.data.prepare --resize=short_side',
         '--source folder:PATH --out SQUARES --workers=1'),
    Rule('python -m alexnet_jax.data.prepare --source tfds:imagenet2012' + ANY, needs='ImageNet',
         test='tests/data/prepare/test_imagenet.py::test_imagenet_from_its_tars'),
    Rule('python -m alexnet_jax.data.prepare ' + ANY + '--beam_runner' + ANY, needs='Apache Beam',
         test='tests/data/prepare/test_prepare.py::test_beam_makes_the_same_files'),
    Rule('python -m alexnet_jax.network paper --(mesh|plan)' + ANY, test=SCALING),
    Rule('python -m alexnet_jax.network' + ANY, ''),
    Rule('python -m alexnet_jax.training ' + ANY, ''),
    Rule('python -m alexnet_jax.ablations ' + ANY,
         '--ablations optimizer.momentum=0 --seeds 1 --config.train.epochs=1'
         ' --config.network.width=0.125 --config.data.dir={data} --config.train.report=off',
         test='tests/studies/test_ablations.py::test_ablations_from_the_command_line_go_on_where_they_were_stopped',
         slow=True),
    Rule('python -m alexnet_jax.figure1 ' + ANY,
         '--activations relu --rates 0.01 --seeds 1 --config.train.epochs=1'
         ' --config.network.width=0.25 --config.data.source=digits --config.data.record_size=32'
         ' --config.data.dir={data} --config.train.report=off', slow=True,
         test='tests/studies/test_figure1.py::test_figure_1_from_the_command_line'),

    Rule(r'python benchmarks/step_time.py ' + ANY + '4096', needs='a GPU'),
    Rule(r'python benchmarks/gpu.py ' + ANY, needs='a GPU',
         test='tests/test_benchmarks.py::test_all_that_needs_a_gpu_runs_dry'),
    Rule(r'python benchmarks/step_time.py' + ANY,
         f'{BENCH} --batches=2 --modes=train --no-compile', slow=True),
    Rule(r'python benchmarks/(memory|layers).py', f'{BENCH} --batch=2', slow=True),
    Rule(r'python benchmarks/scaling.py', '--net=small --rounds=1 --batches=2 --sizes=28 --widths=0.5'
         ' --classes=10 --middle=2,28,1,10 --overhead_batch=2 --overhead_rounds=1', slow=True),
    Rule(r'python benchmarks/startup.py', '--rounds=1 --images=20 --batch=2'
         ' --set=network.width=0.125 --set=network.input_size=67', slow=True),
    Rule(r'python benchmarks/saving.py', '--net=small --batch=2 --steps=1 --rounds=1', slow=True),
    Rule(r'python benchmarks/input_rate.py', '--images=600 --rounds=1', slow=True),
    Rule(r'python benchmarks/end_to_end.py', '--images=600 --rounds=1 --digits_steps=2 --steps=1'
         ' --batch=2 --set=network.width=0.125 --set=network.input_size=67', slow=True),

    Rule(r'python3 -m venv \.venv', test='.ci/run::python3 -m venv'),
    Rule(r'pip install ' + ANY + r'-e (\.|\.\[(test|beam|prepare)\])', test='.ci/run::pip install'),
    Rule(r'pip install -e \.\[wandb\]', test='tests/training/test_trackers.py::test_wandb_offline'),
    Rule(r'pip install tensorboard', test='pyproject.toml::tensorboard'),
    Rule(r'pip install ' + ANY + r'-e \.\[bench\]', needs='a download', test='pyproject.toml::bench'),
    Rule(r'ruff (check|format) \.', test='.ci/run::ruff'),
    Rule(r'pyright', test='.ci/run::pyright'),
    Rule(r'python -m pytest -q( -n 2| tests/faults)', test='.ci/run::test_command'),
    Rule(r'(python -m )?pytest .*-m slow tests/faults', test='tests/faults/test_kills.py::slow'),
    Rule(r'(python -m )?pytest -m slow tests/experiment/test_elastic.py tests/runtime/test_multihost.py',
         test='tests/experiment/test_elastic.py::slow'),
    Rule(r'pytest -m slow( tests/experiment/test_digits.py)?', test='tests/experiment/test_digits.py::slow'),
    Rule(r'pytest -m slow tests/experiment/test_every_net.py', test='tests/experiment/test_every_net.py::slow'),
    Rule(r'python -m tests.faults.soak --minutes 60', test='tests/faults/soak.py::minutes'),
    Rule(r'python -m tests.(network.parity|weights.authors)', needs='PyTorch'),
]  # fmt: skip


class Shown(NamedTuple):
    """A command as a page shows it, its spaces and quotes made plain; and what is said of it."""

    place: str
    command: str
    said: str

    def __str__(self) -> str:
        return f'{self.place}: {self.command}'


def plain_commands(line: str) -> list[str]:
    """Of a line: without what may be left out, and one of several that follow each other."""
    line = re.sub(r' \[[^]]*\]| \.\.\.', '', line.removeprefix('$ '))
    words = ' '.join(shlex.split(line, comments=True)).replace('.venv/bin/', '')
    return words.split(' && ') if words else []


def blocks(text: str) -> Iterator[tuple[int, list[str]]]:
    """Where each block of code begins, and its lines; of Python, with the fence's first."""
    for found in re.finditer(r'^```(?:.*\n)+?```$|(?<=\n\n)(?: {4}.*\n|\n)+', text, re.MULTILINE):
        lines = found[0].splitlines()
        first = text.count('\n', 0, found.start()) + 1
        if not found[0].startswith('```'):
            yield first, [line[4:] for line in lines]
        elif lines[0] == '```python':
            yield first, lines
        else:
            yield first + 1, lines[1:-1]


def is_text(lines: list[str]) -> bool:
    return next((line for line in lines if line), '').startswith(TEXTS)


def shown_in_blocks(page: Path) -> Iterator[Shown]:
    for first, lines in blocks(page.read_text()):
        if lines[0] == '```python' or is_text(lines):
            continue
        prompted = any(line.startswith('$ ') for line in lines)  # the others are printed
        comment = whole = ''
        for number, line in enumerate(lines, first):
            if line.startswith('#') or not line:
                comment = line
            elif whole or not prompted or line.startswith('$ '):
                whole += line
                if whole.endswith('\\'):
                    whole = whole[:-1]
                    continue
                for command in plain_commands(whole):
                    yield Shown(f'{page}:{number}', command, f'{comment} {whole}')
                whole = ''


def shown_in_sentences(page: Path) -> Iterator[Shown]:
    text = page.read_text()
    sections = [found.start() for found in re.finditer('^#', text, re.MULTILINE)]
    for found in re.finditer(rf'(?<!`)`((?:{PROGRAMS})\s[^`]+)`', text):
        begin = max((at for at in sections if at < found.start()), default=0)
        end = min((at for at in sections if at > found.start()), default=len(text))
        number = text.count('\n', 0, found.start()) + 1
        for command in plain_commands(found[1].replace('\n', ' ')):
            yield Shown(f'{page}:{number}', command, text[begin:end])


SHOWN = [shown for page in PAGES for find in (shown_in_blocks, shown_in_sentences) for shown in find(page)]  # fmt: skip
SNIPPETS = [
    pytest.param('\n'.join(lines[1:-1]), id=f'{page}:{first}')
    for page in PAGES
    for first, lines in blocks(page.read_text())
    if lines[0] == '```python'
]


def rule_of(shown: Shown) -> Rule | None:
    return next((rule for rule in RULES if re.fullmatch(rule.command, shown.command)), None)


def test_every_command_has_a_rule_and_every_rule_a_command():
    ruled = [(str(shown), rule_of(shown)) for shown in SHOWN]
    assert not [shown for shown, rule in ruled if rule is None]
    assert not [rule.command for rule in RULES if rule not in [used for _, used in ruled]]
    everything = [lines for page in PAGES for _, lines in blocks(page.read_text())]
    assert sum(map(is_text, everything)) == len(TEXTS)
    for rule in RULES:
        assert rule.run is not None or rule.test or rule.needs, rule.command
        if rule.test:
            path, word = rule.test.split('::')
            assert re.search(rf'(?<!\w){re.escape(word)}(?!\w)', (ROOT / path).read_text()), rule


def test_what_a_command_needs_is_said_where_it_stands():
    unsaid = [
        f'{shown} needs {rule.needs}'
        for shown in SHOWN
        if (rule := rule_of(shown))
        and rule.needs
        and not re.search(rf'needs\s[^.]*{rule.needs}', shown.said)
    ]
    assert not unsaid


@pytest.fixture(scope='module', autouse=True)
def quickly():
    """Nothing here runs for long: less is done for it when it is compiled."""
    jax.config.update('jax_disable_most_optimizations', True)
    yield
    jax.config.update('jax_disable_most_optimizations', False)


@pytest.fixture(scope='module')
def folder(data_dir, tmp_path_factory) -> Path:
    """What a user would have by then. Names in capitals are the pages' own."""
    folder = tmp_path_factory.mktemp('home')
    for name in ('configs', 'launch', 'alexnet_jax', 'tests'):
        (folder / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / 'benchmarks', folder / 'benchmarks')  # they write beside themselves
    with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()):
        command = f'{DIGITS} --workdir runs/digits {SHORT}'.format(data=data_dir)
        assert main.main(command.split()[3:]) == DONE
        random = np.random.default_rng(0)
        pixels = random.integers(0, 256, (40, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save('image.png')
        write_classes(Path('PHOTOS'), 10)
        write_classes(Path('PATH/train'), 4)
        write_classes(Path('PATH/val'), 1)
        write_classes(Path('OTHER'), 4, tuple('0123456789'))
        arrays = forms.torchvision_arrays('torchvision', random)
        save_file(arrays, 'file.safetensors', {'format': 'pt'})
        authors.write_state_dict(Path('alexnet-owt-7be5be79.pth'), arrays)
        authors.write_caffemodel(
            Path('bvlc_alexnet.caffemodel'), forms.caffe_blobs(random), authors.caffe_order('caffe')
        )
        Path('names.txt').write_text('\n'.join('abcdefg'))
        for name, there in {
            'IMAGE': 'image.png', 'RUN': 'runs/digits', 'SOURCE': 'runs/digits',
            'FROM': 'TO',
        }.items():  # fmt: skip
            Path(name).symlink_to(there)
    return folder


@pytest.fixture
def home(folder, data_dir, tmp_path, monkeypatch) -> Path:
    """One for each page, where the commands are run."""
    shutil.copytree(folder, tmp_path / 'home', symlinks=True)
    monkeypatch.chdir(tmp_path / 'home')
    monkeypatch.setenv('TFDS_DATA_DIR', data_dir)  # of processes of their own
    command = '--source folder:OTHER --out SET --size=32 --workers=1 --val_fraction=0.5'
    assert prepare.main(command.split()) == DONE
    return tmp_path / 'home'


def run(command: str, monkeypatch) -> int | str | None:
    """Its exit status; of the package's commands in this process."""
    words = command.split()
    while re.match(r'\w+=', words[0]):
        monkeypatch.setenv(*words.pop(0).split('=', 1))
    if words[:2] != ['python', '-m']:
        words[0] = sys.executable if words[0] == 'python' else words[0]
        return subprocess.run(words, env=os.environ | {'PYTHON': sys.executable}).returncode
    module = importlib.import_module(words[2])
    if hasattr(module, '__path__'):
        module = importlib.import_module(f'{words[2]}.__main__')
    try:
        return run_command(module.run, words[3:])
    except SystemExit as ended:
        return ended.code


def assert_those_are_done(page: Path, slow: bool, data_dir: str, monkeypatch, capfd) -> None:
    """Each in the order of the page; but no command twice, on whatever pages it stands."""
    first = {shown.command: shown for shown in reversed(SHOWN)}
    for shown in SHOWN:
        rule = rule_of(shown)
        if not rule or rule.run is None or rule.slow != slow or first[shown.command] != shown:
            continue
        if not shown.place.startswith(f'{page}:'):
            continue
        command = f'{shown.command} {rule.run}'.format(data=data_dir)
        command = command.replace('NAME', 'caffe').replace('FILE', 'file.safetensors')
        if re.search('--(out|workdir) DIR', command):
            shutil.rmtree('DIR', ignore_errors=True)  # another each time
        assert run(command, monkeypatch) == DONE, f'{shown}\n{capfd.readouterr().err}'


@pytest.mark.parametrize('page', PAGES, ids=str)
def test_commands(page, home, data_dir, monkeypatch, capfd):
    assert_those_are_done(page, False, data_dir, monkeypatch, capfd)


@pytest.mark.slow
@pytest.mark.parametrize('page', PAGES, ids=str)
def test_commands_that_take_long(page, home, data_dir, monkeypatch, capfd):
    assert_those_are_done(page, True, data_dir, monkeypatch, capfd)


@pytest.mark.parametrize('snippet', SNIPPETS)
def test_snippets(snippet, home, capsys):
    """What a comment says of a line's print is printed."""
    found: dict = {}
    exec(snippet, found)
    promised = re.findall(r'^print\(.*  # (.*)', snippet, re.MULTILINE)
    assert capsys.readouterr().out.splitlines() == promised
    if snippet.startswith('from alexnet_jax import load'):
        assert len([line for line in snippet.splitlines() if line]) == 3
        assert found['logits'].shape == (1, 10)
        assert found['activations']['conv5/pool'].shape == (1, 3, 3, 32)
