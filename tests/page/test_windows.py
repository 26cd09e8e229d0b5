"""Two windows of the page, which share one store.

Neither loses, hides or repeats what the other one does.
"""

import pytest
from conftest import answered, ask, texts
from mock_server import STORY
from playwright.sync_api import expect


@pytest.fixture
def two(open_page):
    """Two windows with the same conversation open."""

    def two(question, wait=True):
        first = open_page()
        ask(first, question, wait)
        expect(first.locator(".item")).to_have_count(1)
        if not wait:
            expect(first.locator(".is-last .body")).to_contain_text("Once")
        first.wait_for_timeout(150)  # kept
        return first, open_page(context=first.context)

    return two


def test_two_windows_see_each_other(open_page):
    page = open_page()
    ask(page, "From the first window")
    second = open_page(context=page.context)
    second.locator("#new").click()
    ask(second, "From the second window")
    expect(page.locator(".item")).to_have_count(2)
    assert texts(page, "from-user") == ["From the first window"]


def test_an_answer_that_is_written_in_another_window_grows_here(two):
    first, second = two("slow one", wait=False)
    expect(second.locator(".problem")).to_have_count(0)
    expect(second.locator(".is-last.is-running")).to_be_visible()
    expect(second.locator("#stop")).to_be_visible()
    length = len(texts(second, "from-model")[0])
    second.wait_for_timeout(2500)
    assert len(texts(second, "from-model")[0]) > length
    # Longer than questions to a window that is gone are repeated.
    second.wait_for_timeout(7000)
    answered(second)
    assert texts(second) == texts(first)
    assert second.locator(".is-last .body").inner_text().startswith(STORY[:40])


def test_an_answer_is_stopped_from_another_window(two, server):
    first, second = two("slow one", wait=False)
    second.locator("#stop").click()
    answered(first)
    answered(second)
    expect(second.locator(".is-last .stats")).to_contain_text("Stopped")
    first.wait_for_timeout(600)
    assert server.gone == 1 and texts(first) == texts(second)


def test_an_answer_whose_window_is_gone_is_cut(two):
    first, second = two("slow one", wait=False)
    expect(second.locator(".is-last.is-running")).to_be_visible()
    first.close()
    expect(second.locator(".problem")).to_contain_text("not complete")
    second.get_by_role("button", name="Try again").click()
    expect(second.locator(".is-last.is-running")).to_be_visible()


def test_what_both_windows_say_at_once_is_kept_by_both(two):
    first, second = two("Hello")
    for page, text in ((first, "From the first"), (second, "From the second")):
        # They hear of each other too late.
        page.evaluate("BroadcastChannel.prototype.postMessage = () => {}")
        page.locator("#input").fill(text)
    for page in (first, second):
        page.locator("#send").click()
    for page in (first, second):
        answered(page)
    first.wait_for_timeout(300)
    first.reload()
    seen = set(first.locator(".from-user .body").all_text_contents())
    other = "Next version" if first.locator(".count").inner_text() == "1/2" else "Previous version"
    first.get_by_role("button", name=other).click()
    seen |= set(first.locator(".from-user .body").all_text_contents())
    assert seen == {"Hello", "From the first", "From the second"}
    assert len(texts(first, "from-model")) == 2


def test_title_settings_and_branch_are_the_last_ones_of_either_window(two, server):
    first, second = two("Hello")
    second.get_by_role("button", name="Regenerate answer").click()
    answered(second)
    expect(first.locator(".is-last .count")).to_have_text("2/2")
    second.get_by_role("button", name="Previous version").click()
    expect(first.locator(".is-last .count")).to_have_text("1/2")
    second.locator("#settings-open").click()
    second.get_by_label("System prompt").fill("Be kind.")
    second.keyboard.press("Escape")
    second.locator(".item").hover()
    second.get_by_role("button", name="Rename Hello").click()
    second.get_by_role("textbox", name="New name").fill("A greeting")
    second.keyboard.press("Enter")
    expect(first.locator("#title")).to_have_text("A greeting")
    ask(first, "And now?")
    assert server.chats()[-1]["messages"][0] == {"role": "system", "content": "Be kind."}
    second.reload()
    expect(second.locator("#title")).to_have_text("A greeting")
    assert texts(second, "from-user") == ["Hello", "And now?"]


def test_a_conversation_deleted_during_its_answer_stays_deleted_and_can_come_back(two):
    first, second = two("slow one", wait=False)
    second.locator(".item").hover()
    second.get_by_role("button", name="Delete slow one").click()
    expect(first.locator(".item")).to_have_count(0)
    expect(first.locator("#welcome")).to_be_visible()
    first.wait_for_timeout(2000)
    first.reload()
    expect(first.locator(".item")).to_have_count(0)
    second.get_by_role("button", name="Undo").click()
    expect(first.locator(".item")).to_have_count(1)


def test_an_open_edit_outlives_what_another_window_does(two):
    first, second = two("Hello")
    first.locator(".from-user").hover()
    first.locator(".from-user").get_by_role("button", name="Edit message").click()
    first.get_by_role("textbox", name="Edit message").fill("Not yet sent")
    ask(second, "More")
    expect(first.locator(".from-user")).to_have_count(2)
    expect(first.get_by_role("textbox", name="Edit message")).to_have_value("Not yet sent")


def test_each_tab_comes_back_to_its_own_conversation(two):
    first, second = two("Hello")
    second.locator("#new").click()
    ask(second, "Another")
    first.reload()
    assert texts(first, "from-user") == ["Hello"]
    second.locator("#new").click()
    first.reload()
    assert texts(first, "from-user") == ["Hello"]
    second.reload()
    expect(second.locator("#welcome")).to_be_visible()


MERGE = """async () => {
    const { addMessage, checkedConversation, newConversation, shownPath } =
        await import('./conversation.js');
    const { merge } = await import('./merge.js');
    const seen = (c) => JSON.stringify(shownPath(c).map((at) => c.messages[at].text));
    const above = (c, m) => m.parent === null ? null : c.messages[m.parent].text;
    const all = (c) => c.messages.map((m) => [m.text, above(c, m)]).sort().join();
    for (let seed = 1; seed <= 300; seed += 1) {
        let state = seed;
        const next = (below) => {
            state = (state * 1664525 + 1013904223) % 4294967296;
            return Math.floor(state / 4294967296 * below);
        };
        const copies = [newConversation()];
        copies.push(structuredClone(copies[0]));
        for (let step = 0; step < 40; step += 1) {
            const own = copies[next(2)];
            const { length } = own.messages;
            const parent = length > 0 && next(4) > 0 ? next(length) : null;
            const role = next(2) ? 'user' : 'assistant';
            addMessage(own, parent, { role, text: `${seed}.${step}` });
            const other = copies[1 - copies.indexOf(own)];
            if (next(4) === 0) merge(own, checkedConversation(structuredClone(other)));
        }
        merge(copies[0], checkedConversation(structuredClone(copies[1])));
        merge(copies[1], checkedConversation(structuredClone(copies[0])));
        if (copies[0].messages.length !== 40 || all(copies[0]) !== all(copies[1])) {
            return { seed, lost: copies.map(all) };
        }
        if (seen(copies[0]) !== seen(copies[1])) return { seed, shown: copies.map(seen) };
        if (merge(copies[0], copies[1])) return { seed, again: true };
        checkedConversation(copies[0]);
    }
    return null;
}"""


def test_merging_loses_nothing_and_both_copies_become_the_same(page):
    assert page.evaluate(MERGE) is None
