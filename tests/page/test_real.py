"""The page and the server that is shipped, with the model that is inside it.

HALFBYTE=PATH names the command; else target/ is looked into.
"""

import contextlib
import os
import pathlib
import re
import socket
import subprocess
import time
import urllib.request

import pytest
from conftest import ROOT, answered, ask, texts
from mock_server import POLICY
from playwright.sync_api import expect


def command():
    places = [
        os.environ.get("HALFBYTE"),
        ROOT / "target/release/halfbyte",
        ROOT / "target/debug/halfbyte",
    ]
    for place in places:
        if place and pathlib.Path(place).is_file():
            told = subprocess.run([place, "serve", "--help"], capture_output=True, check=False)
            if told.returncode == 0:
                return place
    pytest.skip("skipped: no halfbyte command that serves (cargo build, or HALFBYTE=PATH)")


@pytest.fixture(scope="module")
def address():
    with serving() as address:
        yield address


@contextlib.contextmanager
def serving(*options):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [command(), "serve", "--port", str(port), *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}/"
    try:
        for _ in range(300):
            assert process.poll() is None, "the server ended"
            try:
                urllib.request.urlopen(f"{address}health", timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait(20)


def test_the_embedded_model_answers_stops_and_answers_again(open_page, address):
    page = open_page(address)
    expect(page.locator("#meter-text")).to_have_text("0 of 512 tokens")
    page.locator("#settings-open").click()
    page.get_by_label("Seed").fill("1")
    page.get_by_label("Longest answer").fill("40")
    page.keyboard.press("Escape")
    ask(page, "Write a story about a small boat that wants to see the sea.")
    [first] = texts(page, "from-model")
    assert len(first.split()) > 10
    expect(page.locator(".is-last .stats")).to_have_text(
        re.compile(r"^\d+ tokens · [\d.]+ tokens/s$")
    )
    page.get_by_role("button", name="Regenerate answer").click()
    answered(page)
    assert texts(page, "from-model") == [first], "the same seed gives the same answer"
    expect(page.locator(".is-last .count")).to_have_text("2/2")
    page.locator("#settings-open").click()
    page.get_by_role("button", name="Reset to the usual").click()
    page.keyboard.press("Escape")
    ask(page, "Write a long story about a cat.", wait=False)
    expect(page.locator(".is-last .body")).to_have_text(re.compile(r"\w"))
    page.keyboard.press("Escape")
    answered(page)
    expect(page.locator(".is-last .stats")).to_contain_text("Stopped")
    before = texts(page)
    page.wait_for_timeout(200)
    page.reload()
    expect(page.locator(".is-last .body")).to_be_visible()
    assert texts(page) == before


def test_too_long_a_text_is_refused_in_words_and_the_oldest_can_go(open_page, address):
    page = open_page(address)
    page.locator("#settings-open").click()
    page.get_by_label("Longest answer").fill("20")
    page.keyboard.press("Escape")
    page.locator("#input").fill("word " * 600)
    expect(page.locator("#meter-text")).to_contain_text("more than the model can read")
    page.locator("#input").fill("Tell me of " + "many days and " * 70)
    page.keyboard.press("Enter")
    answered(page)
    ask(page, "Tell me of " + "many nights and " * 70)
    expect(page.locator(".problem")).to_contain_text("no longer fits into the model's context")
    page.get_by_role("button", name="Leave out the oldest messages").click()
    answered(page)
    expect(page.locator(".problem")).to_have_count(0)


def test_a_server_with_a_key_gives_the_page_and_asks_for_the_key(open_page):
    with serving("--api-key", "secret") as address:
        page = open_page(address)
        page.locator("#key-asked").fill("secret")
        page.keyboard.press("Enter")
        expect(page.locator("#model")).to_have_text(re.compile("stories"))
        ask(page, "Write a story about a cat.")
        expect(page.locator(".is-last .body")).to_have_text(re.compile(r"\w"))


def test_the_server_sends_the_page_with_the_policy_that_the_tests_were_run_with(address):
    with urllib.request.urlopen(address) as answer:
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        assert answer.headers["Content-Security-Policy"] == POLICY


def test_the_policy_of_the_tests_is_the_one_that_is_shipped():
    source = (ROOT / "crates/halfbyte-server/src/routes/page.rs").read_text()
    [shipped] = re.findall(r'POLICY: &str = "((?:[^"\\]|\\\s)*)"', source)
    assert re.sub(r"\\\s+", "", shipped) == POLICY
