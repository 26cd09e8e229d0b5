"""Files that go in and out of the page: attached ones, exports, imports."""

import json

from conftest import USUAL, answered, ask, texts
from playwright.sync_api import expect

BIG = 1_000_001


def test_files_go_along_once(page, server):
    page.locator("#file").set_input_files(
        {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"line one\n```\nline two\n"}
    )
    expect(page.locator(".chip")).to_contain_text("notes.txt")
    ask(page, "What is in it?")
    content = server.chats()[0]["messages"][0]["content"]
    assert content == "File notes.txt:\n````\nline one\n```\nline two\n````\n\nWhat is in it?"
    expect(page.locator(".chip")).to_have_count(0)
    expect(page.locator("details.file")).to_contain_text("notes.txt")


def test_files_that_cannot_go_along_are_refused_with_a_reason(page):
    page.locator("#file").set_input_files(
        [
            {"name": "big.txt", "mimeType": "text/plain", "buffer": b"x" * BIG},
            {"name": "photo.png", "mimeType": "image/png", "buffer": b"\x89PNG\0\xff"},
        ]
    )
    expect(page.locator(".toast")).to_contain_text("at most 1.0 MB can go along")
    expect(page.locator(".toast")).to_contain_text("photo.png is not a text file in UTF-8")
    expect(page.locator(".chip")).to_have_count(0)


def test_every_refused_file_has_its_reason(page):
    page.locator("#file").set_input_files(
        [{"name": f"{i}.bin", "mimeType": "x/y", "buffer": b"\0"} for i in range(9)]
    )
    expect(page.locator(".toast")).to_contain_text("0.bin is not a text file")
    expect(page.locator(".toast")).to_contain_text("3 more files cannot go along either.")


def test_files_and_an_open_edit_wait_for_their_conversation(page, server):
    ask(page, "Hello")
    page.locator("#file").set_input_files(
        {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"text"}
    )
    expect(page.locator(".chip")).to_have_count(1)
    page.locator(".from-user").hover()
    page.locator(".from-user").get_by_role("button", name="Edit message").click()
    page.get_by_role("textbox", name="Edit message").fill("Not yet sent")
    page.locator("#new").click()
    expect(page.locator(".chip")).to_have_count(0)
    page.locator("#file").set_input_files(
        {"name": "other.txt", "mimeType": "text/plain", "buffer": b"other"}
    )
    page.locator("#input").fill("a draft")
    page.get_by_role("button", name="Write a story about a girl").click()
    answered(page)
    expect(page.locator("#input")).to_have_value("a draft")
    expect(page.locator(".chip")).to_contain_text("other.txt")
    assert server.chats()[-1]["messages"] == [
        {"role": "user", "content": "Write a story about a girl and her garden."}
    ]
    page.locator(".item-name", has_text="Hello").click()
    expect(page.locator(".chip")).to_contain_text("notes.txt")
    expect(page.get_by_role("textbox", name="Edit message")).to_have_value("Not yet sent")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#input")).to_be_focused()


def test_a_dropped_file_goes_along(page):
    transfer = page.evaluate_handle("""() => {
        const transfer = new DataTransfer();
        transfer.items.add(new File(['hello'], 'dropped.md'));
        return transfer;
    }""")
    page.dispatch_event("main", "dragenter", {"dataTransfer": transfer})
    expect(page.locator("#drop")).to_be_visible()
    page.dispatch_event("main", "drop", {"dataTransfer": transfer})
    expect(page.locator(".chip")).to_contain_text("dropped.md")
    expect(page.locator("#drop")).to_be_hidden()


def test_an_export_is_imported_again(open_page, tmp_path):
    page = open_page()
    ask(page, "markdown")
    page.get_by_role("button", name="Regenerate answer").click()
    answered(page)
    with page.expect_download() as download:
        page.locator("#export").click()
    file = tmp_path / "export.json"
    download.value.save_as(file)
    other = open_page()
    other.locator("#import-file").set_input_files(file)
    expect(other.locator(".is-last .count")).to_have_text("2/2")
    assert texts(other) == texts(page)
    other.locator("#import-file").set_input_files(file)
    expect(other.locator(".item")).to_have_count(2)  # never written over


def test_files_of_the_terminal_chat_are_read_and_written(page, tmp_path):
    saved = {
        "format": "halfbyte chat",
        "version": 1,
        "model": "m.gguf",
        "settings": {"temperature": 0.5, "max_new_tokens": 64, "seed": None},
        "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": "Good day"},
        ],
    }
    (tmp_path / "saved.json").write_text(json.dumps(saved))
    page.locator("#import-file").set_input_files(tmp_path / "saved.json")
    expect(page.locator(".item")).to_have_count(1)
    assert texts(page) == ["Hello", "Good day"]
    page.locator("#settings-open").click()
    expect(page.get_by_label("Longest answer")).to_have_value("64")
    page.keyboard.press("Escape")
    page.locator(".item").hover()
    with page.expect_download() as download:
        page.get_by_role("button", name="Export Hello").click()
    download.value.save_as(tmp_path / "export.json")
    exported = json.loads((tmp_path / "export.json").read_text())
    assert exported["messages"] == saved["messages"]
    assert exported["settings"] == {
        **{name: USUAL[name] for name in ("top_p", "top_k", "repetition_penalty")},
        "temperature": 0.5,
        "max_new_tokens": 64,
    }


def test_settings_without_a_place_in_the_page_are_named(page, tmp_path):
    settings = {
        "temperature": 0.5,
        "typical_p": 0.9,
        "presence_penalty": 0.0,
        "stop": ["."],
        "logit_bias": {},
        "max_new_tokens": 2_000_000,
        "seed": None,
    }
    (tmp_path / "saved.json").write_text(
        json.dumps({"settings": settings, "messages": [{"role": "user", "content": "Hello"}]})
    )
    page.locator("#import-file").set_input_files(tmp_path / "saved.json")
    expect(page.locator(".toast")).to_contain_text("left out: typical_p, stop, max_new_tokens.")


def test_an_import_that_is_none_changes_nothing(page, tmp_path):
    def exported(*conversations):
        file = {"format": "halfbyte chat", "version": 1, "conversations": conversations}
        return json.dumps(file)

    good = {"messages": [{"parent": None, "role": "user", "text": "hi"}]}
    orphan = {"messages": [{"parent": 0, "role": "user", "text": ""}]}
    cases = {
        "{": "is not a JSON file",
        "[1]": "holds no conversations",
        json.dumps({"format": "another", "messages": []}): "holds no conversations",
        json.dumps({"format": "halfbyte chat", "version": 2, "conversations": []}): "newer version",
        exported(good, orphan): "conversation 2: message 1: parent must be the number of an "
        "earlier message. Nothing was imported.",
        exported({"messages": [{"role": "system", "text": ""}]}): "role must be",
        exported({"messages": {"length": 1e9}}): "messages must be a list",
        exported({"messages": [{"role": "user", "text": 5}]}): "text must be a text",
    }
    for content, complaint in cases.items():
        (tmp_path / "bad.json").write_text(content)
        page.locator("#import-file").set_input_files(tmp_path / "bad.json")
        expect(page.locator(".toast").last).to_contain_text(complaint)
    expect(page.locator(".item")).to_have_count(0)
