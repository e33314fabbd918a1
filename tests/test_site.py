"""The site of docs/: every link of it leads somewhere, and its pages in a browser, from disk."""

import os
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

pytest.importorskip('material')
pytest.importorskip('mkdocstrings')
ROOT = Path(__file__).parents[1]
CHROMIUM = shutil.which('chromium') or shutil.which('google-chrome')
pytestmark = pytest.mark.thorough
# The start page, wide tables, a module, a notebook.
PAGES = ('index.html', 'results.html', 'reference/training/step.html', 'stimuli.ipynb.html')


class Links(HTMLParser):
    """The links of a page by the attribute that holds them, and its anchors."""

    def __init__(self, path: Path):
        super().__init__()
        self.links: list[tuple[str, str]] = []
        self.anchors = {''}
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or '' for name, value in attrs}
        self.anchors |= {given[name] for name in ('id', 'name') if name in given}
        self.links += [(tag, given[name]) for name in ('href', 'src') if name in given]


@pytest.fixture(scope='module')
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('site')
    command = [sys.executable, '-m', 'mkdocs', 'build', '--strict', '--site-dir', folder]
    environment = os.environ | {'NO_MKDOCS_2_WARNING': '1'}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and 'WARNING' not in done.stderr, done.stderr[-3000:]
    return folder


def test_every_link_and_anchor_of_the_site_is_there(site):
    pages = {path.resolve(): Links(path) for path in site.rglob('*.html')}
    broken, checked = [], 0
    for page, found in pages.items():
        for tag, link in found.links:
            parts = urlsplit(link)
            if parts.scheme in ('http', 'https', 'data'):
                # A reader may go elsewhere; a page loads nothing from there.
                assert tag == 'a' or parts.scheme == 'data', (page, link)
                continue
            if page.name == '404.html' and link.startswith('/'):
                continue  # as a server of the site gives it
            place = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            checked += 1
            if not place.is_file():
                broken.append(f'{page.relative_to(site)}: {link}')
            elif place in pages and unquote(parts.fragment) not in pages[place].anchors:
                broken.append(f'{page.relative_to(site)}: {link} (no such anchor)')
    assert not broken
    assert checked > 1000


@pytest.mark.parametrize(('page', 'link'), [
    ('configuration.html', 'reference/experiment/settings.html'),
    ('configuration.html', 'configs.html'),
    ('protocols.html', 'files/configs/cifar10_from_tiny_imagenet.py.html'),
    ('processes.html', 'launch.html'),
    ('photographs.html', 'photographs/index.html'),
    ('report.html', 'alexnet.ipynb.html'),
    ('configs.html', 'files/configs/digits.py.html'),
    ('index.html', 'LOG.html'),
])  # fmt: skip
def test_links_that_leave_docs_lead_to_pages(site, page, link):
    assert ('a', link) in Links(site / page).links


def test_a_linked_file_is_shown_whole(site):
    class Text(HTMLParser):
        text = ''

        def handle_data(self, data: str) -> None:
            self.text += data

    shown = Text()
    shown.feed((site / 'files/configs/digits.py.html').read_text())
    assert (ROOT / 'configs/digits.py').read_text() in shown.text


def test_the_reference_names_what_the_modules_define(site):
    anchors = Links(site / 'reference/index.html').anchors
    assert {
        f'alexnet_jax.{name}' for name in ('load', 'train', 'Model', 'default_config')
    } <= anchors
    assert (
        'alexnet_jax.network.alexnet.AlexNet'
        in Links(site / 'reference/network/alexnet.html').anchors
    )
    assert '<li><code>config</code>: the settings' in (site / 'reference/index.html').read_text()
    names = {path.stem for path in (ROOT / 'alexnet_jax' / 'training').glob('*.py')}
    assert {path.stem for path in (site / 'reference/training').glob('*.html')} == (
        names - {'__init__', '__main__'} | {'index'}
    )


@pytest.fixture(scope='module')
def browser():
    playwright = pytest.importorskip('playwright.sync_api')
    if CHROMIUM is None:
        pytest.skip('needs Chromium')
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=['--no-sandbox'])
        yield browser
        browser.close()


def opened(browser, path: Path, width: int, scheme: str, messages: list[str]):
    """A page from disk; `messages` gets errors, and addresses outside the site."""
    view = browser.new_page(viewport={'width': width, 'height': 900}, color_scheme=scheme)
    view.on('console', lambda message: messages.append(message.text))
    view.on('pageerror', lambda error: messages.append(str(error)))
    view.on('request', lambda request: request.url.startswith(('file:', 'data:', 'blob:'))
            or messages.append(request.url))  # fmt: skip
    view.goto(path.as_uri())
    view.wait_for_selector('.md-search:not([hidden])', state='attached')
    return view


def assert_accessible(view) -> None:
    axe = pytest.importorskip('axe_playwright_python.sync_playwright')
    found = axe.Axe().run(view)
    assert found.violations_count == 0, found.generate_report()


@pytest.mark.parametrize('page', PAGES)
def test_pages_in_a_browser(site, browser, page):
    for width, scheme in ((390, 'dark'), (1440, 'light')):
        messages: list[str] = []
        view = opened(browser, site / page, width, scheme, messages)
        assert view.evaluate('document.documentElement.scrollWidth') <= width
        assert not messages
        assert_accessible(view)
        view.close()


def test_the_search_works_from_disk(site, browser):
    messages: list[str] = []
    view = opened(browser, site / 'index.html', 1440, 'dark', messages)
    view.keyboard.press('f')
    view.keyboard.type('receptive field', delay=30)
    view.wait_for_selector('.md-search-result__link')
    links = view.evaluate(
        '[...document.querySelectorAll(".md-search-result__link")].map(a => a.href)'
    )
    assert any('receptive_fields.html' in link for link in links)
    assert not messages
    assert_accessible(view)
    view.close()
