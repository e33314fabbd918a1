"""Phrases that the pages, docstrings and messages do without, and the words for them."""

import re
from pathlib import Path

import pytest

from tests import prose

# Programs are not persons, and a reader's first language may be another one.
PHRASES = {
    r'told|tells?|telling': 'reports, prints, logs, states, distinguishes',
    r'hears?|heard|hearing': 'receives',
    r'asks? (nobody|everybody|anybody)': 'makes no network requests',
    r'goes on bit for bit': 'resumes bit-exactly',
    r'the old (state|one) is gone': 'the input state is donated',
    r'made squares?': 'resized',
    r'taken for \d': 'predicted as',
    r'how often what': 'intervals',
    r"less (each|every|the) (channel's )?mean": 'subtract the mean',
    r'without a beat': 'without a heartbeat',
    r'that which|that who': 'a noun',
    r'what (devices|processes) (tell|say|send) (to )?each other': 'collectives',
}
# Rewritten elsewhere at the moment; each line goes when its file is done.


ANY = re.compile(rf'\b({"|".join(PHRASES)})\b', re.IGNORECASE)


def hits(text: str) -> list[tuple[str, str]]:
    """Returns the phrases of a text, and what to write."""
    return [
        (found[0], better)
        for found in ANY.finditer(' '.join(text.split()))
        for phrase, better in PHRASES.items()
        if re.fullmatch(phrase, found[0], re.IGNORECASE)
    ]


def found_in(path: Path) -> list[str]:
    """Returns the phrases of a page or module with their places."""
    if path.suffix == '.py':
        places = prose.statements(path)
    else:
        places = enumerate(path.read_text().splitlines(), 1)
    return [
        f'{path}:{line}: {phrase!r}; rather: {better}'
        for line, text in places
        for phrase, better in hits(text)
    ]


def test_phrases_that_must_not_return():
    found = {str(path): found_in(path) for path in [*prose.PAGES, *prose.SOURCES]}
    assert not [hit for every in found.values() for hit in every]


@pytest.mark.parametrize('text', [
    'All processes are told of it.', 'A run that was\nstopped goes on\nbit for bit.',
    'Images less each channel’s mean'.replace('’', "'"), '30 of 0 taken for 9', 'It asks nobody.',
])  # fmt: skip
def test_phrases_are_found(text):
    assert hits(text)


def test_words_that_hold_a_phrase_are_none():
    assert not hits('foretold, shear, heartbeat; a square mean; the mean less two')


def test_reading_ease_of_a_page():
    """By hand: 3 + 7 words in 2 sentences, 3 + 8 syllables; code, tables and heads left out."""
    page = '# Head\n\nThe cat sat.\nA [trained](net.md) `net` predicts a class now.\n\n'
    page += '    code that is left out\n\n| a | table |\n|---|---|\n'
    found = prose.sentences(page)
    assert found == ['The cat sat.', 'A trained code predicts a class now.']
    assert [prose.syllables(word) for word in ('trained', 'predicts', 'class', 'table', 'expected')] == [
        1, 2, 1, 2, 3,
    ]  # fmt: skip
    assert prose.reading_ease(found) == pytest.approx(206.835 - 1.015 * 5 - 84.6 * 11 / 10)
