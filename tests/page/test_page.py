"""The chat page in use: asking, stopping, branching, keeping, and settings."""

import json
import re

from conftest import USUAL, answered, ask, texts
from mock_server import STORY
from playwright.sync_api import expect


def test_a_question_is_answered_and_measured(page, server):
    expect(page.locator("#model")).to_have_text("stories-q4_0")
    ask(page, "Tell me a story")
    assert texts(page, "from-user") == ["Tell me a story"]
    assert re.sub(r"\s+", " ", texts(page, "from-model")[0]) == re.sub(r"\s+", " ", STORY)
    expect(page.locator(".is-last .stats")).to_have_text(
        re.compile(r"^\d+ tokens · [\d.]+ tokens/s$")
    )
    expect(page.locator("#meter-text")).to_have_text(re.compile(r"^\d+ of 512 tokens$"))
    [sent] = server.chats()
    assert sent == {
        "model": "stories-q4_0",
        "messages": [{"role": "user", "content": "Tell me a story"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        **USUAL,
    }
    ask(page, "And then?")
    assert [message["role"] for message in server.chats()[1]["messages"]] == [
        "user",
        "assistant",
        "user",
    ]
    assert server.chats()[1]["messages"][1]["content"] == STORY


def test_stop_keeps_what_was_written_and_tells_the_server(page, server):
    ask(page, "slow one", wait=False)
    expect(page.locator(".is-last .body")).to_contain_text("Once upon")
    page.locator("#stop").click()
    answered(page)
    text = texts(page, "from-model")[0]
    assert 0 < len(text) < len(STORY) and STORY.startswith(text.strip())
    expect(page.locator(".is-last .stats")).to_contain_text("Stopped")
    expect(page.locator("#input")).to_be_focused()
    page.wait_for_timeout(600)
    assert server.gone == 1
    assert texts(page, "from-model")[0] == text


def test_an_answer_that_is_stopped_before_its_first_word_is_asked_for_again(page):
    ask(page, "wait", wait=False)
    page.keyboard.press("Escape")
    expect(page.locator(".is-last .stats")).to_have_text("Stopped")
    page.get_by_role("button", name="Regenerate answer").click()
    answered(page)
    expect(page.locator(".is-last .body")).to_contain_text("Once upon")
    expect(page.locator(".branches")).to_have_count(0)


def test_escape_in_a_field_that_needs_it_stops_no_answer(page):
    ask(page, "slow one", wait=False)
    expect(page.locator(".is-last .body")).to_contain_text("Once")
    page.locator("#search").fill("words")
    page.keyboard.press("Escape")
    expect(page.locator("#search")).to_have_value("")
    page.evaluate("""() => {
        const key = { key: 'Escape', isComposing: true, bubbles: true };
        document.getElementById('input').dispatchEvent(new KeyboardEvent('keydown', key));
    }""")
    expect(page.locator("#stop")).to_be_visible()
    page.keyboard.press("Escape")
    answered(page)


def test_regenerating_keeps_both_answers(page, server):
    ask(page, "Tell me a story")
    page.get_by_role("button", name="Regenerate answer").click()
    answered(page)
    expect(page.locator(".is-last .count")).to_have_text("2/2")
    assert server.chats()[0]["messages"] == server.chats()[1]["messages"]
    page.get_by_role("button", name="Previous version").click()
    expect(page.locator(".is-last .count")).to_have_text("1/2")
    expect(page.get_by_role("button", name="Next version")).to_be_focused()


def test_an_edited_question_is_a_branch(page, server):
    ask(page, "First question")
    ask(page, "Second question")
    page.locator("#input").press("ArrowUp")
    expect(page.get_by_role("textbox", name="Edit message")).to_have_value("Second question")
    page.keyboard.press("Escape")
    first = page.locator(".from-user").first
    first.hover()
    first.get_by_role("button", name="Edit message").click()
    page.get_by_role("textbox", name="Edit message").fill("markdown instead")
    page.keyboard.press("Enter")
    answered(page)
    assert texts(page, "from-user") == ["markdown instead"]
    assert server.chats()[-1]["messages"] == [{"role": "user", "content": "markdown instead"}]
    page.get_by_role("button", name="Previous version").click()
    expect(page.locator(".from-user .body")).to_have_text(["First question", "Second question"])


def test_an_edited_answer_is_kept_beside_and_sent(page, server):
    ask(page, "Question")
    page.locator(".from-model").hover()
    page.locator(".from-model").get_by_role("button", name="Edit message").click()
    page.get_by_role("textbox", name="Edit message").fill("My own answer")
    page.get_by_role("button", name="Save").click()
    assert texts(page, "from-model") == ["My own answer"]
    expect(page.locator(".is-last .count")).to_have_text("2/2")
    ask(page, "More")
    assert server.chats()[-1]["messages"][1] == {"role": "assistant", "content": "My own answer"}


def test_a_reload_keeps_conversation_branch_and_draft(page):
    ask(page, "Tell me a story")
    page.get_by_role("button", name="Regenerate answer").click()
    answered(page)
    page.get_by_role("button", name="Previous version").click()
    page.locator("#input").fill("not sent yet")
    before = texts(page)
    page.wait_for_timeout(200)
    page.reload()
    expect(page.locator(".is-last .count")).to_have_text("1/2")
    assert texts(page) == before
    expect(page.locator("#input")).to_have_value("not sent yet")
    expect(page.locator("#title")).to_have_text("Tell me a story")


def test_a_reload_in_the_middle_keeps_the_part(page):
    ask(page, "slow one", wait=False)
    page.wait_for_timeout(2500)
    page.reload()
    expect(page.locator(".is-last .body")).to_contain_text("Once upon")
    expect(page.locator(".problem")).to_contain_text("not complete")
    expect(page.get_by_role("button", name="Try again")).to_be_visible()


def test_an_answer_goes_on_while_another_conversation_is_open(page):
    ask(page, "slow one", wait=False)
    page.locator("#new").click()
    expect(page.locator("#welcome")).to_be_visible()
    expect(page.locator(".working")).to_be_visible()
    ask(page, "quick one")
    page.locator(".item-name", has_text="slow one").click()
    expect(page.locator(".is-last .body")).to_contain_text("Once upon")
    expect(page.locator("#stop")).to_be_visible()
    page.keyboard.press("Escape")
    answered(page)


def test_conversations_are_found_renamed_deleted_and_restored(page):
    for text in ("apples are red", "pears are green"):
        page.locator("#new").click()
        ask(page, text)
    expect(page.locator(".item")).to_have_count(2)
    page.locator("#search").fill("apples")
    expect(page.locator(".item")).to_have_count(1)
    page.locator("#search").fill("nowhere")
    expect(page.locator("#list")).to_have_text("Nothing found.")
    page.locator("#search").fill("")
    item = page.locator(".item", has_text="apples")
    item.hover()
    item.get_by_role("button", name="Rename").click()
    page.get_by_role("textbox", name="New name").fill("About apples")
    page.keyboard.press("Enter")
    page.wait_for_timeout(100)
    page.reload()
    item = page.locator(".item", has_text="About apples")
    item.hover()
    item.get_by_role("button", name="Delete").click()
    expect(page.locator(".item")).to_have_count(1)
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(".item")).to_have_count(2)
    assert texts(page, "from-user") == ["apples are red"]


def test_settings_are_sent_kept_and_reset(page, server):
    page.locator("#settings-open").click()
    page.get_by_label("System prompt").fill("You are terse.")
    for label, value in {
        "Temperature": "0.25",
        "Top p": "0.9",
        "Top k": "12",
        "Min p": "0.05",
        "Repeat penalty": "1.15",
        "Longest answer": "99",
        "Seed": "7",
    }.items():
        page.get_by_label(label).fill(value)
    page.get_by_label("Top k").fill("-3")
    expect(page.locator("#hint-top_k")).to_have_text("A whole number from 0 to 1000, please.")
    page.get_by_role("button", name="Done").click()
    ask(page, "Hello")
    sent = server.chats()[0]
    assert sent["messages"][0] == {"role": "system", "content": "You are terse."}
    names = ("temperature", "top_p", "min_p", "repetition_penalty", "max_tokens", "seed")
    assert [sent[name] for name in names] == [0.25, 0.9, 0.05, 1.15, 99, 7]
    assert sent["top_k"] == 40, "a value out of its limits is not sent"
    page.reload()
    page.locator("#settings-open").click()
    expect(page.get_by_label("Seed")).to_have_value("7")
    page.get_by_role("button", name="Reset to the usual").click()
    page.keyboard.press("Escape")
    ask(page, "Again")
    assert server.chats()[1].items() >= USUAL.items()
    assert set(server.chats()[1]) == {"model", "messages", "stream", "stream_options", *USUAL}


def test_one_of_several_models_can_be_chosen(open_page, server):
    server.models = ["small", "large"]
    page = open_page()
    page.get_by_label("Model").select_option("large")
    ask(page, "Hello")
    assert server.chats()[0]["model"] == "large"


def test_a_deleted_conversation_takes_its_own_draft_and_no_other(page):
    ask(page, "Hello")
    page.locator("#input").fill("its own draft")
    page.locator("#new").click()
    page.locator("#input").fill("my long draft")
    page.locator(".item-name").click()
    expect(page.locator("#input")).to_have_value("its own draft")
    page.locator(".item").hover()
    page.get_by_role("button", name="Delete Hello").click()
    expect(page.locator("#input")).to_have_value("my long draft")
    page.wait_for_timeout(400)
    assert json.loads(page.evaluate("localStorage.getItem('halfbyte.drafts')")) == {
        "new": "my long draft"
    }
    page.get_by_role("button", name="Undo").click()
    expect(page.locator("#input")).to_have_value("its own draft")
    page.locator("#new").click()
    expect(page.locator("#input")).to_have_value("my long draft")


def test_what_is_typed_before_the_page_is_ready_stays(open_page, browser, server):
    context = browser.new_context()
    page = open_page(context=context)
    ask(page, "Hello")
    page.locator("#input").fill("kept")
    page.wait_for_timeout(400)
    # A browser that takes its time to open the store.
    context.add_init_script("""
        const { open } = IDBFactory.prototype;
        IDBFactory.prototype.open = function (...all) {
            document.getElementById('input').focus();
            document.execCommand('insertText', false, 'typed early');
            return open.apply(this, all);
        };
    """)
    page.reload()
    expect(page.locator("#input")).to_have_value("kept\ntyped early")
    assert not page.faults
    context.close()


LONG = """async () => {
    const { checkedConversation, siblings } = await import('./conversation.js');
    const messages = Array.from({ length: 20000 }, (_, at) => ({
        role: at % 2 ? 'assistant' : 'user', text: `${at}`, parent: at === 0 ? null : at - 1,
    }));
    const began = performance.now();
    const read = checkedConversation({ messages });
    for (const at of messages.keys()) if (siblings(read, at).length !== 1) return Infinity;
    return performance.now() - began;
}"""


def test_a_conversation_costs_its_length_and_not_the_square_of_it(page):
    assert page.evaluate(LONG) < 1000  # milliseconds; the square of it took five seconds


def test_waiting_for_a_long_prompt_is_counted(page):
    ask(page, "wait", wait=False)
    expect(page.locator(".is-last .stats")).to_have_text(re.compile(r"^Reading, \d+ s$"))
    answered(page)


def test_an_edit_sent_during_an_answer_stops_that_answer(page, server):
    ask(page, "First")
    page.locator("#input").press("ArrowUp")
    page.locator("#input").fill("slow second")
    page.locator("#input").press("Enter")
    expect(page.locator(".is-last .body")).to_contain_text("Once")
    page.get_by_role("textbox", name="Edit message").fill("Third")
    page.keyboard.press("Enter")
    answered(page)
    assert texts(page, "from-user") == ["Third"]
    expect(page.locator("#stop")).to_be_hidden()
    page.wait_for_timeout(600)
    assert server.gone == 1
