"""The server, the network or the browser's storage fails: the page says so, and loses nothing."""

import re

import pytest
from conftest import answered, ask, texts
from playwright.sync_api import expect

REFUSALS = {
    429: "Try again in 3 s",
    503: "It says: asked to fail with 503",
    500: "asked to fail with 500",
    413: "too much text",
    422: "asked to fail with 422",
}


@pytest.mark.parametrize("status", REFUSALS)
def test_a_refusal_is_told_and_tried_again(page, server, status):
    server.failures = [status]
    ask(page, "Tell me a story")
    expect(page.locator(".problem")).to_contain_text(REFUSALS[status])
    assert texts(page, "from-user") == ["Tell me a story"]
    page.get_by_role("button", name="Try again").click()
    answered(page)
    expect(page.locator(".problem")).to_have_count(0)
    expect(page.locator(".branches")).to_have_count(0)  # an empty failure is replaced


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("break", "The answer broke off"),
        ("garble", "could not be read"),
        ("die", "the model failed"),
    ],
)
def test_a_stream_that_fails_keeps_its_part(page, word, told):
    ask(page, word)
    expect(page.locator(".problem")).to_contain_text(told)
    expect(page.locator(".is-last .body")).to_contain_text("Once upon a time there")
    page.wait_for_timeout(100)
    page.reload()
    expect(page.locator(".problem")).to_contain_text(told)


def test_no_server_is_told_and_found_again(page):
    page.context.set_offline(True)
    ask(page, "Hello")
    expect(page.locator(".problem")).to_contain_text("The server does not answer.")
    page.context.set_offline(False)
    page.get_by_role("button", name="Try again").click()
    answered(page)
    expect(page.locator(".problem")).to_have_count(0)


def test_a_page_that_starts_without_its_server_connects_later(open_page, browser, server):
    context = browser.new_context()
    context.route("**/v1/models", lambda route: route.abort())
    page = open_page(context=context)
    expect(page.locator("#connection")).to_contain_text(
        "Look whether halfbyte serve is still running"
    )
    context.unroute("**/v1/models")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("#connection")).to_be_hidden()
    expect(page.locator("#model")).to_have_text("stories-q4_0")
    context.close()


def test_a_key_is_asked_for_and_used(open_page, server):
    server.key = "a secret"
    page = open_page()
    page.get_by_label("The key that halfbyte serve was started with").fill("wrong")
    page.keyboard.press("Enter")
    expect(page.locator("#key-dialog")).to_be_visible()  # asked again
    page.locator("#key-asked").fill("a secret")
    page.get_by_role("button", name="Use the key").click()
    expect(page.locator("#connection")).to_be_hidden()
    ask(page, "Hello")
    page.reload()
    expect(page.locator("#model")).to_have_text("stories-q4_0")  # the tab keeps it
    assert page.evaluate("localStorage.getItem('halfbyte.key')") is None


def test_a_key_that_changed_is_asked_for_and_the_question_asked_again(page, server):
    server.key = "new"
    ask(page, "Hello", wait=False)
    page.locator("#key-asked").fill("new")
    page.keyboard.press("Enter")
    answered(page)
    expect(page.locator(".problem")).to_have_count(0)
    expect(page.locator(".is-last .body")).to_contain_text("Once upon")


def test_a_full_context_offers_to_leave_out_the_oldest(page, server):
    for text in ("First " + "long " * 150, "Second " + "long " * 150):
        ask(page, text)
    server.failures = [400]
    ask(page, "Third")
    expect(page.locator(".problem")).to_contain_text("no longer fits into the model's context")
    page.get_by_role("button", name="Leave out the oldest messages").click()
    answered(page)
    expect(page.locator(".problem")).to_have_count(0)
    sent = server.chats()[-1]["messages"]
    assert len(sent) < 5 and sent[0]["role"] == "user" and sent[-1]["content"] == "Third"
    expect(page.locator(".is-last .stats")).to_contain_text(
        re.compile(r"without the oldest \d messages$")
    )
    assert len(texts(page)) == 6  # left out of the request, not of the page


def test_the_meter_says_when_a_draft_is_too_long(page):
    page.locator("#input").fill("word " * 600)
    expect(page.locator("#meter-text")).to_contain_text("more than the model can read")


def test_the_meter_forgets_a_draft_that_was_sent_while_it_was_counted(page, server):
    page.evaluate("""() => { const { fetch } = window; window.fetch = async (path, options) => {
        if (path === 'tokenize') await new Promise((resolve) => setTimeout(resolve, 600));
        return fetch(path, options); }; }""")
    page.locator("#input").fill("word " * 300)
    page.wait_for_timeout(500)
    page.locator("#input").fill("")
    page.wait_for_timeout(900)
    expect(page.locator("#meter-text")).to_have_text("0 of 512 tokens")


def test_a_key_that_no_request_can_carry_is_not_taken(open_page, server):
    server.key = "secret"
    page = open_page()
    page.locator("#key-asked").fill("“secret”")
    page.keyboard.press("Enter")
    expect(page.locator("#key-dialog")).to_be_visible()
    page.locator("#key-cancel").click()
    page.locator("#settings-open").click()
    page.locator("#key").fill("“secret”")
    page.keyboard.press("Enter")
    expect(page.locator(".toast")).to_contain_text("signs of ASCII only")
    expect(page.locator("#connection")).to_contain_text("wants an API key")


def test_an_older_failure_is_not_tried_again_during_an_answer(page, server):
    server.failures = [500]
    ask(page, "one")
    ask(page, "slow two", wait=False)
    expect(page.locator(".is-last .body")).to_contain_text("Once")
    expect(page.get_by_role("button", name="Try again")).to_be_disabled()
    page.keyboard.press("Escape")
    answered(page)
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".problem")).to_have_count(0)
    expect(page.locator(".is-last")).to_have_count(1)


def test_an_answer_at_its_limit_says_so(page):
    ask(page, "limit")
    expect(page.locator(".note")).to_contain_text("longest length")


def test_a_server_that_came_back_with_another_model_is_asked_for_that(page, server):
    server.models, server.failures = ["another"], [404]
    ask(page, "Hello")
    expect(page.locator("#model")).to_have_text("another")
    page.get_by_role("button", name="Try again").click()
    answered(page)
    assert [chat["model"] for chat in server.chats()] == ["stories-q4_0", "another"]


def test_damaged_records_are_left_out_and_left_alone(page):
    ask(page, "Good one")
    page.wait_for_timeout(100)
    page.evaluate("""() => new Promise((resolve) => {
        const opening = indexedDB.open('halfbyte-chat', 1);
        opening.onsuccess = () => {
            const change = opening.result.transaction('conversations', 'readwrite');
            const table = change.objectStore('conversations');
            table.put({ id: 'bad', messages: [{ parent: 0, role: 'user', text: 'x' }] });
            table.put({ id: 'worse', messages: 'none' }).onsuccess = () => {
                opening.result.close();
                resolve();
            };
        };
    })""")
    page.evaluate("""() => {
        localStorage.setItem('halfbyte.drafts', '{broken');
        localStorage.setItem('halfbyte.defaults', '[7]');
        localStorage.setItem('halfbyte.theme', '3');
    }""")
    page.reload()
    expect(page.locator(".toast")).to_contain_text("2 kept conversations could not be read")
    assert texts(page, "from-user") == ["Good one"]
    count = """() => new Promise((resolve) => {
        const opening = indexedDB.open('halfbyte-chat', 1);
        opening.onsuccess = () => {
            const table = opening.result.transaction('conversations').objectStore('conversations');
            table.count().onsuccess = (e) => resolve(e.target.result);
        };
    })"""
    assert page.evaluate(count) == 3


def test_a_full_store_loses_nothing_silently(page, server):
    """As browsers say it: each request succeeds, and the transaction fails at its end."""
    session = page.context.new_cdp_session(page)
    session.send(
        "Storage.overrideQuotaForOrigin",
        {"origin": server.address.rstrip("/"), "quotaSize": 200_000},
    )
    ask(page, "x" * 3_000_000)
    expect(page.locator(".toast")).to_contain_text("no room")
    session.send("Storage.overrideQuotaForOrigin", {"origin": server.address.rstrip("/")})
    page.locator("#new").click()
    ask(page, "Another")
    page.locator(".item-name", has_text="xxx").click()
    assert [len(text) for text in texts(page, "from-user")] == [3_000_000]


NO_ROOM = (
    "IDBObjectStore.prototype.put = () => { throw new DOMException('full', 'QuotaExceededError'); }"
)
NO_STORE = """
    const get = () => { throw new DOMException('forbidden', 'SecurityError'); };
    Object.defineProperty(window, 'indexedDB', { get });
    Object.defineProperty(window, 'localStorage', { get });
"""


@pytest.mark.parametrize(("script", "told"), [(NO_ROOM, "no room"), (NO_STORE, "keeps nothing")])
def test_without_room_or_storage_the_page_works_and_warns(open_page, browser, script, told):
    context = browser.new_context()
    context.add_init_script(script)
    page = open_page(context=context)
    ask(page, "Hello")
    expect(page.locator(".toast").first).to_contain_text(told)
    page.locator("#new").click()
    ask(page, "Another")
    page.locator(".item-name", has_text="Hello").click()
    assert texts(page, "from-user") == ["Hello"]
    assert not page.faults
    context.close()
