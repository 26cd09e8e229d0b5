"""The page for everybody: axe-core's rules, keyboard, screen readers, phones, zoom, less motion."""

import os
import pathlib

import pytest
from conftest import ROOT, answered, ask
from playwright.sync_api import expect

PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}


def axe_script():
    places = [
        os.environ.get("AXE_CORE"),
        ROOT / "node_modules/axe-core/axe.min.js",
        ROOT / "target/node_modules/axe-core/axe.min.js",
    ]
    for place in places:
        if place and pathlib.Path(place).is_file():
            return pathlib.Path(place).read_text()
    pytest.skip(
        "skipped: axe-core is absent "
        "(npm install --prefix target axe-core, or AXE_CORE=PATH of axe.min.js)"
    )


def check(page, script):
    # Not as a script element, which the page's own policy would forbid. axe makes a style element
    # with text, for which the policy wants a trusted type; nothing of the page does.
    page.evaluate(f"() => {{ {script} }}")
    result = page.evaluate("""async () => {
        const { violations } = await axe.run(document);
        return violations.map((v) => [v.id, v.help, v.nodes.map((n) => n.html.slice(0, 200))]);
    }""")
    assert result == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("device", ["desk", "phone"])
def test_axe_finds_nothing(open_page, server, scheme, device):
    script = axe_script()
    page = open_page(
        color_scheme=scheme, reduced_motion="reduce", **(PHONE if device == "phone" else {})
    )
    check(page, script)
    ask(page, "markdown")
    page.get_by_role("button", name="Regenerate answer").click()
    answered(page)
    page.locator("#file").set_input_files(
        {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"text"}
    )
    ask(page, "limit")
    check(page, script)
    server.failures = [500]
    page.locator("#file").set_input_files(
        [
            {"name": "a.txt", "mimeType": "text/plain", "buffer": b"x"},
            {"name": "b.bin", "mimeType": "x/y", "buffer": b"\0"},
        ]
    )
    ask(page, "fail")
    check(page, script)
    page.locator("#settings-open").click()
    page.get_by_label("Top k").fill("-1")
    check(page, script)
    page.keyboard.press("Escape")
    page.keyboard.press("Control+/")
    check(page, script)
    page.keyboard.press("Escape")
    if device == "phone":
        page.locator("#sidebar-open").click()
        expect(page.locator("#sidebar-close")).to_be_focused()
        check(page, script)
        page.keyboard.press("Escape")
    ask(page, "slow", wait=False)
    expect(page.locator(".is-last .body")).to_contain_text("Once")
    check(page, script)


def test_all_can_be_done_with_the_keyboard(page, server):
    expect(page.locator("#input")).to_be_focused()
    page.keyboard.type("first line")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("second line")
    expect(page.locator("#input")).to_have_value("first line\nsecond line")
    page.keyboard.press("Enter")
    answered(page)
    page.keyboard.type("slow one")
    page.keyboard.press("Enter")
    expect(page.locator(".is-last .body")).to_contain_text("Once")
    page.keyboard.press("Escape")
    answered(page)
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Home")
    page.keyboard.type("not ")
    page.keyboard.press("Enter")
    answered(page)
    assert server.chats()[-1]["messages"][-1]["content"] == "not slow one"
    reach(page, "Regenerate answer")
    page.keyboard.press("Enter")
    answered(page)
    page.keyboard.press("Control+k")
    expect(page.locator("#search")).to_be_focused()
    page.keyboard.press("Control+Shift+o")
    expect(page.locator("#welcome")).to_be_visible()
    expect(page.locator("#input")).to_be_focused()
    page.keyboard.press("Control+/")
    expect(page.locator("#help")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#help")).to_be_hidden()


def reach(page, name):
    """Tabs to the button, and sees that each stop on the way shows that it has the focus."""
    outline = """() => {
        const style = getComputedStyle(document.activeElement);
        const box = document.activeElement.closest('#composer, .edit');
        return style.outlineStyle !== 'none' && style.outlineWidth !== '0px' || box !== null;
    }"""
    for _ in range(40):
        page.keyboard.press("Shift+Tab")
        assert page.evaluate(outline), page.evaluate("document.activeElement.outerHTML")
        if page.evaluate("document.activeElement.getAttribute('aria-label')") == name:
            return
    raise AssertionError(f"{name} cannot be reached")


def test_screen_readers_hear_the_answer_once(page):
    page.evaluate("""() => {
        window.heard = [];
        const announce = document.getElementById('announce');
        new MutationObserver(() => window.heard.push(announce.textContent))
            .observe(announce, { childList: true, characterData: true, subtree: true });
    }""")
    ask(page, "Tell me a story")
    heard = page.evaluate("window.heard")
    assert (
        heard[0] == "Sent. The model is answering."
        and heard[1].startswith("Answer: Once upon a time")
        and len(heard) == 2
    )
    roles = page.locator("[aria-live], [role=status], [role=alert], [role=log]").evaluate_all(
        "all => all.filter((e) => e.closest('#messages')).length"
    )
    assert roles == 0


@pytest.mark.parametrize("width", [320, 360, 768, 1024])
def test_nothing_is_wider_than_the_screen(open_page, width):
    page = open_page(viewport={"width": width, "height": 740})
    for text in ("markdown", "hostile", "unbroken", "y" * 400):
        ask(page, text)
    too_wide = """() => {
        const frames = [document.documentElement, document.querySelector('#scroller')];
        const scrolled = frames.filter((e) => e.scrollWidth > e.clientWidth);
        const may = '.code pre, .table-frame, select, svg, .visually-hidden';
        const parts = [...document.querySelectorAll('main *')].filter((e) => !e.closest(may));
        const cut = parts.filter((e) => e.getBoundingClientRect().right > innerWidth + 1);
        return [...scrolled.map((e) => e.tagName), ...cut.map((e) => e.outerHTML.slice(0, 100))];
    }"""
    assert page.evaluate(too_wide) == []
    page.locator("#settings-open").click()
    assert page.locator("#settings").evaluate(
        "d => d.scrollWidth <= d.clientWidth && d.getBoundingClientRect().right <= innerWidth"
    )


def test_on_a_phone_the_list_covers_and_goes(open_page):
    page = open_page(**PHONE)
    expect(page.locator("#sidebar")).to_be_hidden()
    page.locator("#input").press("Enter")
    # Without Shift there is no other way to a new line.
    expect(page.locator("#input")).to_have_value("\n")
    ask(page, "Hello")
    page.locator("#sidebar-open").click()
    expect(page.locator("#sidebar-close")).to_be_focused()
    page.locator(".item-name").click()
    expect(page.locator("#sidebar")).to_be_hidden()
    page.locator("#sidebar-open").click()
    page.keyboard.press("Escape")
    expect(page.locator("#sidebar")).to_be_hidden()
    small = page.locator("button:visible").evaluate_all("""(all) => {
        const small = all.filter((b) => Math.min(b.offsetWidth, b.offsetHeight) < 24);
        return small.map((b) => b.outerHTML);
    }""")
    assert small == []


def test_the_theme_is_the_systems_until_another_is_chosen(open_page):
    page = open_page(color_scheme="dark")
    colour = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(colour)
    page.emulate_media(color_scheme="light")
    light = page.evaluate(colour)
    assert dark != light
    page.get_by_role("button", name="Switch between dark and light").click()
    assert page.evaluate(colour) == dark
    page.reload()
    assert page.evaluate(colour) == dark
    page.locator("#settings-open").click()
    page.get_by_label("As the system").check()
    assert page.evaluate(colour) == light


def test_whoever_reads_back_is_not_pulled_to_the_end(page):
    for _ in range(3):
        ask(page, "markdown")
    ask(page, "slow", wait=False)
    expect(page.locator(".is-last .body")).to_contain_text("Once")
    page.locator("#scroller").evaluate("s => s.scrollTop = 0")
    expect(page.locator("#jump")).to_be_visible()
    page.wait_for_timeout(800)
    assert page.locator("#scroller").evaluate("s => s.scrollTop") == 0
    page.locator("#jump").click()
    expect(page.locator("#jump")).to_be_hidden()
    page.wait_for_timeout(800)
    expect(page.locator("#jump")).to_be_hidden()
