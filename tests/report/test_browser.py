"""The pages in a browser: on a desk and a phone, light and dark, and printed."""

import re
import shutil
from pathlib import Path

import pytest

from alexnet_jax.report import several
from alexnet_jax.report.figures import kernels, page
from alexnet_jax.runtime.command_line import DONE
from tests import random_run
from tests.report import many
from tests.report.conftest import report

playwright = pytest.importorskip('playwright.sync_api')
axe = pytest.importorskip('axe_playwright_python.sync_playwright')
CHROMIUM = shutil.which('chromium') or shutil.which('google-chrome')
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason='needs Chromium')

# Colors in each picture, on a small canvas: one is a blank.
COLORS = """() => [...document.images].map(image => {
  const canvas = document.createElement('canvas');
  canvas.width = canvas.height = 96;
  const context = canvas.getContext('2d');
  context.drawImage(image, 0, 0, 96, 96);
  return new Set(new Uint32Array(context.getImageData(0, 0, 96, 96).data.buffer)).size;
})"""

# Texts that reach beyond the screen, or out of what hides them; what scrolls may.
CLIPPED = """() => [...document.querySelectorAll('body *')].filter(element => {
  const own = [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
  if (!own || element.closest('.scroll') || !element.offsetParent) return false;
  const box = element.getBoundingClientRect();
  return box.left < 0 || box.right > innerWidth + 1 || element.scrollWidth > element.clientWidth + 1
    && getComputedStyle(element).display !== 'inline';
}).map(element => element.outerHTML.slice(0, 200))"""

# Tables that a phone shows in part.
SCROLLED = """() => [...document.querySelectorAll('.scroll')]
  .filter(element => element.scrollWidth > element.clientWidth + 1)
  .map(element => element.getAttribute('aria-label'))"""

# Texts of a figure that reach beyond its edge.
CUT_OFF = """() => {
  const edge = document.querySelector('svg').getBoundingClientRect();
  return [...document.querySelectorAll('text')].filter(text => {
    const box = text.getBoundingClientRect();
    return box.left < edge.left - 1 || box.right > edge.right + 1
      || box.top < edge.top - 1 || box.bottom > edge.bottom + 1;
  }).map(text => text.textContent);
}"""


# Tables and texts that are wider than the page of paper; the page is as wide as the view.
TOO_WIDE = """() => [...document.querySelectorAll('table, p, figure, li, pre, h1, h2, h3')]
  .filter(element => element.offsetParent && element.getBoundingClientRect().right > innerWidth + 1)
  .map(element => element.outerHTML.slice(0, 200))"""

# Parts that a page break may divide.
DIVIDED = """() => [...document.querySelectorAll('tr, figure, .card, .strip')]
  .filter(element => getComputedStyle(element).breakInside !== 'avoid').length"""

MARGIN = 13 / 25.4 * 96  # CSS pixels, of alexnet_jax/report/figures/style.py
PAPER = {'A4': (210 / 25.4, 297 / 25.4), 'Letter': (8.5, 11)}  # inches


@pytest.fixture(scope='module')
def browser():
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=['--no-sandbox'])
        yield browser
        browser.close()


def assert_sound(browser, path: Path, views=((390, 'dark'), (1440, 'light'))) -> None:
    for width, scheme in views:
        requests, messages = [], []
        view = browser.new_page(viewport={'width': width, 'height': 900}, color_scheme=scheme)
        view.on('request', lambda request, to=requests: to.append(request.url))
        view.on('console', lambda message, to=messages: to.append(message.text))
        view.on('pageerror', lambda error, to=messages: to.append(str(error)))
        view.goto(path.as_uri())
        assert [url for url in requests if not url.startswith('data:')] == [path.as_uri()]
        assert not messages
        assert view.evaluate('document.documentElement.scrollWidth') <= width
        assert view.evaluate('[...document.images].every(i => i.complete && i.naturalWidth)')
        assert min(view.evaluate(COLORS)) > 1
        assert view.evaluate(CLIPPED) == []
        assert view.evaluate(SCROLLED) == []
        found = axe.Axe().run(view)
        assert found.violations_count == 0, found.generate_report()
        view.close()
    view = browser.new_page()
    for figure in sorted(path.parent.glob('*.svg')):
        view.goto(figure.as_uri())
        assert view.evaluate(CUT_OFF) == [], figure.name
    view.close()


@pytest.mark.thorough
def test_the_report_of_the_digits(made, browser):
    every = [(width, scheme) for width in (390, 1440) for scheme in ('light', 'dark')]
    assert_sound(browser, made / 'report' / 'index.html', every)


@pytest.mark.slow
def test_the_report_of_the_patterns(browser, tmp_path):
    settings = {'data.source': 'patterns', 'network.name': 'patterns', 'network.width': '0.5'}
    workdir = random_run.make(tmp_path / 'run', settings, seed=0)
    assert report(workdir) == DONE
    assert_sound(browser, workdir / 'report' / 'index.html')


@pytest.mark.thorough
def test_runs_beside_each_other(made, browser, tmp_path):
    other = shutil.copytree(made, tmp_path / 'other')
    several.compare([made, other], tmp_path / 'page')
    assert_sound(browser, tmp_path / 'page' / 'index.html')


@pytest.mark.thorough
@pytest.mark.parametrize('kind', many.ALL)
def test_pages_of_many_runs(kind, browser, tmp_path):
    many.ALL[kind](tmp_path)
    several.make(tmp_path)
    assert_sound(browser, tmp_path / 'report' / 'index.html')


@pytest.mark.thorough
def test_a_weight_of_the_paper_s_kernels_is_four_pixels_wide(browser, tmp_path, random):
    """Two columns of 48 kernels of 11×11 pixels beside each other on a desk."""
    columns = [
        page.sheet(one, f'Column {number}', '')
        for number, one in enumerate(kernels.sheets(random.normal(size=(2, 11, 11, 3, 48))))
    ]
    path = tmp_path / 'index.html'
    path.write_text(page.render('', '', [page.Section('', [page.side_by_side(*columns)])]))
    view = browser.new_page(viewport={'width': 1440, 'height': 900})
    view.goto(path.as_uri())
    boxes = view.evaluate(
        '[...document.images].map(i => i.getBoundingClientRect()).map(b => [b.left, b.top, b.width])'
    )
    view.close()
    (left, top, width), (other_left, other_top, other_width) = boxes
    assert width == other_width and width / (8 * 12 + 1) >= 4
    assert top == other_top and other_left > left + width


def printed(view, size: str) -> tuple[int, list[tuple[str, float]]]:
    """Returns the number of pages on paper, and (title, height above the lower edge as a fraction
    of the page) of each heading, from the outline of the PDF."""
    content = view.pdf(format=size, outline=True, tagged=True, prefer_css_page_size=False)
    headings = re.findall(rb'/Title \((.*?)\)\s*/Dest \[\d+ 0 R /XYZ [\d.]+ ([\d.]+)', content)
    height = 72 * PAPER[size][1]
    return (
        len(re.findall(rb'/Type\s*/Page\b', content)),
        [(title.decode('latin1'), float(y) / height) for title, y in headings],
    )


def assert_printable(view, size: str) -> None:
    """The page in the browser's dark theme, on light paper of a size."""
    view.emulate_media(media='print')
    view.set_viewport_size({'width': int(96 * PAPER[size][0] - 2 * MARGIN), 'height': 1000})
    assert view.evaluate(TOO_WIDE) == []
    assert view.evaluate(DIVIDED) == 0
    style = view.evaluate(
        """() => ({paper: getComputedStyle(document.body).backgroundColor,
        nav: getComputedStyle(document.querySelector('nav')).display,
        links: [...document.querySelectorAll('main a')].filter(link => link.offsetParent).length,
        single: [...document.querySelectorAll('.pair')].filter(
          pair => getComputedStyle(pair).gridTemplateColumns.split(' ').length < 2).length})"""
    )
    assert style == {'paper': 'rgb(255, 255, 255)', 'nav': 'none', 'links': 0, 'single': 0}


@pytest.mark.thorough
@pytest.mark.parametrize('size', PAPER)
def test_a_printed_report(size, made, browser):
    view = browser.new_page(color_scheme='dark')
    view.goto((made / 'report' / 'index.html').as_uri())
    pages, headings = printed(view, size)
    assert 6 <= pages <= 12
    assert [title for title, _ in headings][:2] == ['Net', 'Training'] and len(headings) >= 11
    # Below a heading is at least a tenth of the page: it is not the last line of its page.
    assert min(height for _, height in headings) > 0.1, headings
    assert_printable(view, size)
    view.close()


@pytest.mark.thorough
@pytest.mark.parametrize('kind', [*many.ALL, 'comparison'])
def test_printed_pages_of_many_runs(kind, made, browser, tmp_path):
    out = tmp_path / 'report'
    if kind == 'comparison':
        several.compare([made, shutil.copytree(made, tmp_path / 'other')], out)
    else:
        many.ALL[kind](tmp_path)
        several.make(tmp_path)
    view = browser.new_page(color_scheme='dark')
    view.goto((out / 'index.html').as_uri())
    pages, _ = printed(view, 'A4')
    assert 1 <= pages <= 3
    assert_printable(view, 'A4')
    view.close()
