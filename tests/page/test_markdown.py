"""The markdown renderer.

What it draws, that streams draw the same, that no text becomes markup, and that work is bounded.
"""

import time

import pytest
from conftest import answered, ask
from mock_server import ANSWERS
from playwright.sync_api import expect

RENDER = """async (text) => {
    const { MarkdownView } = await import('./markdown-view.js');
    const container = document.createElement('div');
    new MarkdownView(container).update(text);
    for (const head of container.querySelectorAll('.code-head')) head.remove();
    for (const a of container.querySelectorAll('a')) a.removeAttribute('title');
    return container.innerHTML.replaceAll(/ (tabindex|role|aria-label|class)="[^"]*"/g, '')
        .replaceAll(' target="_blank" rel="noopener noreferrer"', '!');
}"""

CASES = {
    "two\nlines": "<p>two\nlines</p>",
    "one\n\ntwo": "<p>one</p><p>two</p>",
    "*a* **b** ***c*** ~~d~~ _e_ __f__": "<p><em>a</em> <strong>b</strong> "
    "<em><strong>c</strong></em> <s>d</s> <em>e</em> <strong>f</strong></p>",
    "snake_case_name 2*3*4 a * b": "<p>snake_case_name 2<em>3</em>4 a * b</p>",
    "**open and *closed*": "<p>**open and <em>closed</em></p>",
    "`a*b*` ``c`d`` `open": "<p><code>a*b*</code> <code>c`d</code> `open</p>",
    r"\*no\* \` \q": r"<p>*no* ` \q</p>",
    "# A\n### B\n#no": "<h3>A</h3><h4>B</h4><p>#no</p>",
    "## A ##": "<h3>A</h3>",
    "# Learning C#\n## A#\\# ###  \n# #": "<h3>Learning C#</h3><h4>A##</h4><h3></h3>",
    "---\n***": "<hr><hr>",
    "- a\n- b\n  - c\n\n1. d\n2. e": "<ul><li>a</li><li>b<ul><li>c</li></ul></li></ul>"
    "<ol><li>d</li><li>e</li></ol>",
    "7. a\n8. b": '<ol start="7"><li>a</li><li>b</li></ol>',
    "1. a\n\n   more\n2. b": "<ol><li>a<p>more</p></li><li>b</li></ol>",
    "text\n- item\nlazy": "<p>text</p><ul><li>item\nlazy</li></ul>",
    "in 1986\n1986. was a year": "<p>in 1986\n1986. was a year</p>",
    "> a\n> > b": "<blockquote><p>a</p><blockquote><p>b</p></blockquote></blockquote>",
    "```rust\nfn a() {}\n\n  b\n```\nafter": "<div><pre><code>fn a() {}\n\n  b</code></pre></div>"
    "<p>after</p>",
    "````\n```\n````": "<div><pre><code>```</code></pre></div>",
    "```\nnot closed <b>": "<div><pre><code>not closed &lt;b&gt;</code></pre></div>",
    "```make\nall:\n\techo hi\n```": "<div><pre><code>all:\n\techo hi</code></pre></div>",
    "  ```\n\ta\n   b\n  ```": "<div><pre><code>  a\n b</code></pre></div>",
    "- a\n\t- b\n\t\t- c": "<ul><li>a<ul><li>b<ul><li>c</li></ul></li></ul></li></ul>",
    "- a\n  ```\n  code\n  ```": "<ul><li>a<div><pre><code>code</code></pre></div></li></ul>",
    "| a | b |\n|---|--:|\n| 1 | `x\\|y` |\n| 2 |": '<div><table><thead><tr><th scope="col">a</th>'
    '<th scope="col">b</th></tr></thead>'
    "<tbody><tr><td>1</td><td><code>x|y</code></td></tr><tr><td>2</td></tr></tbody></table></div>",
    "a | b\nno table": "<p>a | b\nno table</p>",
    "[a *b*](https://x.org/p?q=1)": '<p><a href="https://x.org/p?q=1"!>a <em>b</em></a></p>',
    '[a](https://x.org/a_(b) "t") [m](mailto:a@b.org)': '<p><a href="https://x.org/a_(b)"!>a</a> '
    '<a href="mailto:a@b.org"!>m</a></p>',
    "see https://x.org/a, (http://y.org) <https://z.org>": "<p>see "
    '<a href="https://x.org/a"!>https://x.org/a</a>, (<a href="http://y.org/"!>http://y.org</a>) '
    '<a href="https://z.org/"!>https://z.org</a></p>',
    "[a](javascript:x) [b](data:x) [c](/d) [e](vbscript:x)": "<p>[a](javascript:x) [b](data:x) "
    "[c](/d) [e](vbscript:x)</p>",
    "[a]( javascript:x) [b](JAVASCRIPT:x) [c](java\tscript:x)": "<p>[a]( javascript:x) "
    "[b](JAVASCRIPT:x) [c](java\tscript:x)</p>",
    "[a [b](http://c.org)](http://d.org)": '<p>[a <a href="http://c.org/"!>b</a>]('
    '<a href="http://d.org/"!>http://d.org</a>)</p>',
    "![alt](http://x.org/i.png)": '<p>!<a href="http://x.org/i.png"!>alt</a></p>',
    "<img src=x onerror=a()> <b>&lt; &amp;": "<p>&lt;img src=x onerror=a()&gt; &lt;b&gt;"
    "&amp;lt; &amp;amp;</p>",
    "": "",
    " \n\t\n": "",
    "\x00\ufffe\u202e\U0010ffff": "<p>\x00\ufffe\u202e\U0010ffff</p>",
}


def test_markdown_becomes_elements(page):
    drawn = {text: page.evaluate(RENDER, text) for text in CASES}
    assert {text: shown for text, shown in drawn.items() if shown != CASES[text]} == {}


STREAMED = """async (seeds) => {
    const { MarkdownView } = await import('./markdown-view.js');
    const parts = ['# ', '- ', '  - ', '1. ', '> ', '```', '~~~', '|', '|-|', '\\n', '\\n\\n', ' ',
        '    ', '*', '**', '_', '`', '[', '](', 'http://x.org', ')', 'word', 'two words',
        '---', '\\\\', '<b>', '\\t', 'é', '🙂'];
    const allowed = new Set(('DIV SPAN BUTTON svg use P H3 H4 H5 H6 HR UL OL LI BLOCKQUOTE PRE '
        + 'CODE TABLE THEAD TBODY TR TH TD A STRONG EM S').split(' '));
    const plain = (container) => container.innerHTML;
    for (let seed = 1; seed <= seeds; seed += 1) {
        let state = seed * 2654435761 % 4294967296;
        const next = (below) => {
            state = (state * 1664525 + 1013904223) % 4294967296;
            return Math.floor(state / 4294967296 * below);
        };
        const text = Array.from({ length: 5 + next(60) }, () => parts[next(parts.length)]).join('');
        const [whole, grown] = [document.createElement('div'), document.createElement('div')];
        new MarkdownView(whole).update(text);
        const view = new MarkdownView(grown);
        for (let at = 0; at < text.length; at += 1 + next(4)) view.update(text.slice(0, at));
        view.update(text);
        if (plain(whole) !== plain(grown)) {
            return { seed, text, whole: plain(whole), grown: plain(grown) };
        }
        for (const element of grown.querySelectorAll('*')) {
            if (!allowed.has(element.tagName)) return { seed, text, tag: element.tagName };
        }
        const letters = (from) => from.replaceAll(/[^a-zé🙂]/gu, '');
        for (const extra of grown.querySelectorAll('.code-head')) extra.remove();
        if (letters(text).length < letters(grown.textContent).length) {
            return { seed, text, invented: grown.textContent };
        }
    }
    return null;
}"""


def test_a_stream_draws_the_same_as_the_whole(page):
    assert page.evaluate(STREAMED, 1500) is None


CODE = """async (seeds) => {
    const { MarkdownView } = await import('./markdown-view.js');
    const parts = ['\\n', '\\n\\t', '\\t', ' ', '    ', '# ', '- ', '> ', '| a |', '``', '*',
        'word', 'if (a) {', '}', 'é', '<b>'];
    for (let seed = 1; seed <= seeds; seed += 1) {
        let state = seed * 2654435761 % 4294967296;
        const next = (below) => {
            state = (state * 1664525 + 1013904223) % 4294967296;
            return Math.floor(state / 4294967296 * below);
        };
        const drawn = Array.from({ length: 1 + next(40) }, () => parts[next(parts.length)]);
        const code = drawn.join('').replaceAll(/`{3,}/g, '``');
        const container = document.createElement('div');
        new MarkdownView(container).update('```\\n' + code + '\\n```\\nafter');
        const [shown] = container.querySelectorAll('code');
        if (shown.textContent !== code || container.lastChild.textContent !== 'after') {
            return { seed, code, shown: shown.textContent };
        }
    }
    return null;
}"""


def test_code_is_shown_letter_by_letter(page):
    assert page.evaluate(CODE, 1500) is None


def test_hostile_text_stays_text(page):
    ask(page, "hostile")
    body = page.locator(".is-last .body")
    expect(body).to_contain_text('<img src=x onerror="window.hacked=1">')
    expect(body).to_contain_text("[click me](javascript:window.hacked=3)")
    expect(
        body.locator(
            "img, script, iframe, style, svg:not(.icon), [onerror], [onload], [onmouseover]"
        )
    ).to_have_count(0)
    addresses = body.locator("a").evaluate_all(
        "links => links.map((a) => [a.protocol, a.rel, a.target])"
    )
    assert len(addresses) == 4 and all(
        address[0] in ("http:", "https:") and address[1:] == ["noopener noreferrer", "_blank"]
        for address in addresses
    )
    assert page.evaluate("window.hacked") is None
    page.wait_for_timeout(100)
    page.reload()
    expect(page.locator(".is-last .body")).to_contain_text("<script>window.hacked=2</script>")
    assert page.evaluate("window.hacked") is None


@pytest.mark.parametrize("name", ["huge", "stars", "unbroken", "list", "code", "rows"])
def test_a_megabyte_does_not_freeze_the_page(page, name):
    """The longest time in which the page answers nobody is measured from inside."""
    page.evaluate("""() => {
        let last = performance.now();
        window.longest = 0;
        setInterval(() => {
            const now = performance.now();
            window.longest = Math.max(window.longest, now - last);
            last = now;
        }, 10);
    }""")
    began = time.monotonic()
    ask(page, name, wait=False)
    page.locator("#input").fill("still here")
    expect(page.locator("#send")).to_be_visible(timeout=60_000)
    answered(page)
    took, longest = time.monotonic() - began, page.evaluate("window.longest")
    print(f"{name}: {took:.1f} s, longest pause {longest:.0f} ms")
    assert len(page.locator(".is-last .body").text_content()) > 300_000
    assert page.locator(".is-last .body *").count() < 25_000
    assert took < 40 and longest < 3000
    expect(page.locator("#input")).to_have_value("still here")
    assert len(ANSWERS[name]) >= 1_000_000
