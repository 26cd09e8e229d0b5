"""What the tests of the chat page share: a browser, a server that can fail on command, a page.

They want pytest, playwright (`pip install pytest playwright`) and Chromium (Debian: `apt-get
install chromium`; elsewhere `playwright install chromium`, or CHROMIUM=PATH). Without them they are
skipped and say what is missing.
"""

import os
import pathlib
import shutil
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from mock_server import MockServer

try:
    from playwright.sync_api import Error, expect, sync_playwright
except ImportError:
    sync_playwright = None

ROOT = pathlib.Path(__file__).resolve().parents[2]
# The sampling that the page asks for if nobody changes it: the library's own.
USUAL = {"temperature": 0.7, "top_p": 0.95, "top_k": 40, "repetition_penalty": 1.1}
# What the browser itself says of an answer that is no success; the page tells it to the person.
EXPECTED = ("Failed to load resource",)


def pytest_addoption(parser):
    parser.addoption(
        "--require-all",
        action="store_true",
        help="what is missing here is a failure and not skipped",
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    report = yield
    if report.skipped and item.config.getoption("--require-all"):
        report.outcome = "failed"
    return report


@pytest.fixture(scope="session")
def browser():
    if sync_playwright is None:
        pytest.skip("skipped: playwright is absent (pip install playwright)")
    path = (
        os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    )
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(
                executable_path=path, args=["--no-sandbox"] if root else []
            )
        except Error as error:
            reason = str(error).splitlines()[0]
            pytest.skip(f"skipped: Chromium is absent (apt-get install chromium): {reason}")
        expect.set_options(timeout=10_000)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def running_server():
    server = MockServer().start()
    yield server
    server.shutdown()


@pytest.fixture
def server(running_server):
    running_server.reset()
    return running_server


@pytest.fixture
def open_page(browser, server):
    """Opens the page in a fresh browser.

    At the end there was no error, no blocked content, and no request to elsewhere.
    """
    pages = []

    def open_page(address=None, context=None, **options):
        if context is None:
            context = browser.new_context(**options)
            context.set_default_timeout(10_000)
            pages.append(context)
        page = context.new_page()
        watch(page, address or server.address)
        page.goto(address or server.address)
        expect(page.locator("body.is-ready")).to_be_attached()
        return page

    yield open_page
    for context in pages:
        wrong = [fault for page in context.pages for fault in page.faults]
        context.close()
        assert not wrong, wrong


def watch(page, origin):
    page.faults = []
    page.on("pageerror", lambda error: page.faults.append(f"error: {error}"))

    def console(message):
        if message.type in ("error", "warning") and not message.text.startswith(EXPECTED):
            page.faults.append(f"console: {message.text}")

    def request(made):
        if not made.url.startswith((origin, "data:", "blob:")):
            page.faults.append(f"request to {made.url}")

    page.on("console", console)
    page.on("request", request)


@pytest.fixture
def page(open_page):
    return open_page()


def ask(page, text, wait=True):
    """Sends a text as a person does, and waits until its answer is complete."""
    page.locator("#input").fill(text)
    if page.evaluate("matchMedia('(pointer: coarse)').matches"):
        page.locator("#send").click()
    else:
        page.keyboard.press("Enter")
    if wait:
        answered(page)


def answered(page):
    expect(page.locator("article.is-last.from-model:not(.is-running)")).to_be_visible()
    expect(page.locator("#send")).to_be_visible()


def texts(page, who="message"):
    return page.locator(f".{who} .body").all_inner_texts()
