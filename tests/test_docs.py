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

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from alexnet_jax import __main__ as commands
from alexnet_jax import main
from alexnet_jax.data.prepare import __main__ as prepare
from alexnet_jax.runtime.command_line import DONE
from alexnet_jax.runtime.command_line import run as run_command
from tests.data.photographs import write_classes
from tests.docs_rules import DIGITS, RULES, SHORT, Rule
from tests.experiment import own_files
from tests.weights import authors, forms

pytestmark = pytest.mark.usefixtures('quickly')
ROOT = Path(__file__).parents[1]
LOG = Path('docs/LOG.md')  # what was tried, not what to try
PAGES = [
    Path('README.md'), Path('CONTRIBUTING.md'), *sorted(set(Path('docs').glob('*.md')) - {LOG}),
]  # fmt: skip
PAGES += [Path(folder, 'README.md') for folder in ('configs', 'launch', 'benchmarks')]

# Blocks that are no commands, by how they begin.
TEXTS = ('source -> prepare', 'process 0: ', 'training: small on digits', 'activation ')

# Among the words of a sentence, these begin a command if another word follows.
PROGRAMS = r'python3?|pytest|pip|ruff|tensorboard|sbatch|scancel|kubectl|launch/\S+\.sh'


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


def test_the_korean_readme_shows_the_commands_and_snippets_of_the_english_one():
    english, korean = (
        (
            [shown.command for shown in shown_in_blocks(page)],
            [lines for _, lines in blocks(page.read_text()) if lines[0] == '```python'],
            re.findall('^#+ ', page.read_text(), re.MULTILINE),
        )
        for page in (Path('README.md'), Path('docs/README.ko.md'))
    )
    assert len(english[0]) > 5 and len(english[1]) == 2
    assert korean[:2] == english[:2]
    assert korean[2] == [*english[2], '## ']  # a list of terms at the end


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
        write_classes(Path('stimuli'), 2)
        write_classes(Path('OTHER'), 4, tuple('0123456789'))
        write_classes(Path('RENDITIONS/test'), 2, tuple('471'))
        arrays = forms.torchvision_arrays('torchvision', random)
        save_file(arrays, 'file.safetensors', {'format': 'pt'})
        authors.write_state_dict(Path('alexnet-owt-7be5be79.pth'), arrays)
        authors.write_caffemodel(
            Path('bvlc_alexnet.caffemodel'), forms.caffe_blobs(random), authors.caffe_order('caffe')
        )
        own_files.write(Path())
        Path('names.txt').write_text('\n'.join('abcdefg'))
        judged = random.random((300, 300))  # as many as the digits have test images
        np.savetxt('JUDGMENTS.csv', judged + judged.T, delimiter=',')
        lines = [f'digit {n},{"odd" if n % 2 else "even"}' for n in range(1797)]
        Path('LABELS.csv').write_text('\n'.join(['id,label', *lines]))
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
    if words[0] == 'alexnet-jax':
        try:
            return commands.main(words[1:])
        except SystemExit as ended:
            return ended.code
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


@pytest.mark.thorough
@pytest.mark.parametrize('page', PAGES, ids=str)
def test_commands(page, home, data_dir, monkeypatch, capfd):
    assert_those_are_done(page, False, data_dir, monkeypatch, capfd)


@pytest.mark.slow
@pytest.mark.parametrize('page', PAGES, ids=str)
def test_commands_that_take_long(page, home, data_dir, monkeypatch, capfd):
    assert_those_are_done(page, True, data_dir, monkeypatch, capfd)


@pytest.mark.thorough
@pytest.mark.parametrize('snippet', SNIPPETS)
def test_snippets(snippet, home, capsys):
    """What a comment says of a line's print is printed."""
    found: dict = {}
    exec(snippet, found)
    promised = re.findall(r'^ *print\(.*  # (.*)', snippet, re.MULTILINE)
    printed = capsys.readouterr().out.splitlines()
    if 'alexnet_jax.train(' in snippet:  # which prints its progress
        printed = [line for line in printed if line in promised]
    assert printed == promised
    if snippet.startswith('from alexnet_jax import load'):
        assert len([line for line in snippet.splitlines() if line]) == 3
        assert found['logits'].shape == (1, 10)
        assert found['activations']['conv5/pool'].shape == (1, 3, 3, 32)


def test_the_reading_list_of_the_readme_has_the_lengths_of_the_files():
    rows = re.findall(
        r'^\| `(alexnet_jax/\S+)` \| (\d+) \|', Path('README.md').read_text(), re.MULTILINE
    )
    assert len(rows) == 6
    for path, lines in rows:
        assert abs(len(Path(path).read_text().splitlines()) - int(lines)) <= 10, path
