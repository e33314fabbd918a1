"""The prose of the project: its pages, docstrings and messages; and how easily the pages read.

    python -m tests.prose [PAGE ...]

Prints a table of the pages: words, Flesch's reading ease (206.8 − 1.015 · words a sentence −
84.6 · syllables a word; 60 to 70 is plain English), and the words of the longest sentence. Code
and tables are left out. A group of vowels counts as a syllable, a silent e at the end does not.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

LOG = Path('docs/LOG.md')  # dated; it stays as it was written
PAGES = [
    *map(Path, ('README.md', 'CONTRIBUTING.md', 'SECURITY.md')),
    *sorted(path for path in Path('docs').glob('*.md') if path != LOG and '.ko' not in path.name),
    *map(Path, ('configs/README.md', 'launch/README.md', 'benchmarks/README.md', 'benchmarks/RESULTS.md')),
]  # fmt: skip
SOURCES = [
    path for folder in ('alexnet_jax', 'benchmarks', 'configs', 'website')
    for path in sorted(Path(folder).rglob('*.py'))
]  # fmt: skip


def sentences(text: str) -> list[str]:
    """Returns the sentences of a page of Markdown, inline code as one word."""
    text = re.sub(r'^```.*?^```$', '', text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r'^( {4}|\||#).*$', '', text, flags=re.MULTILINE)
    text = re.sub(r'!\[[^]]*\]\([^)]*\)', '', text)
    text = re.sub(r'\[([^]]*)\]\([^)]*\)', r'\1', text)
    text = re.sub(r'`[^`]*`', 'code', text)
    text = re.sub(r'^\s*([-*]|\d+\.) ', '\n\n', text, flags=re.MULTILINE)
    found = []
    for paragraph in re.split(r'\n\s*\n', text):
        found += re.split(r'(?<=[.!?])[)"*]*\s+(?=[A-Z"(*])', ' '.join(paragraph.split()))
    return [sentence for sentence in found if words(sentence)]


def words(sentence: str) -> list[str]:
    """Returns the words of a sentence, numbers left out."""
    return re.findall(r"[A-Za-z]+(?:['’-][A-Za-z]+)*", sentence)


def syllables(word: str) -> int:
    """Returns about how many syllables an English word has, at least 1."""
    word = re.sub(r'(?<=[^aeiouyl])e$|(?<=[aeiouy])le$|(?<=[^aeioudt])ed$', '', word.lower())
    return max(1, len(re.findall('[aeiouy]+', word)))


def reading_ease(page: list[str]) -> float:
    """Returns Flesch's reading ease of some sentences."""
    every = [word for sentence in page for word in words(sentence)]
    return 206.835 - 1.015 * len(every) / len(page) - 84.6 * sum(map(syllables, every)) / len(every)


def statements(path: Path) -> Iterator[tuple[int, str]]:
    """Yields the docstrings and messages of a module with their lines: strings with a space."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and ' ' in node.value:
            yield node.lineno, node.value


def main(paths: list[Path]) -> None:
    """Prints the table."""
    print('| page | words | reading ease | longest sentence |\n|---|---|---|---|')
    for path in paths:
        page = sentences(path.read_text())
        lengths = [len(words(sentence)) for sentence in page]
        print(f'| {path} | {sum(lengths)} | {reading_ease(page):.0f} | {max(lengths)} |')


if __name__ == '__main__':
    main([Path(path) for path in sys.argv[1:]] or PAGES)
