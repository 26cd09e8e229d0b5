"""Takes the pictures in docs/.

`halfbyte serve --port 8080`, then `python screenshots.py http://127.0.0.1:8080/ ../../docs`. They
want what conftest.py names and pngquant, and look best with the font Inter (Debian: fonts-inter).
Seeds are fixed, so the words stay.
"""

import pathlib
import shutil
import subprocess
import sys

from playwright.sync_api import sync_playwright

QUESTIONS = [
    "Write a story about two friends and a storm.",
    "Write a story about a cat who likes to sing.",
    "Write a story about a girl and her garden.",
]
SHOTS = {
    "light": {"viewport": {"width": 1200, "height": 780}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1200, "height": 780}, "color_scheme": "dark"},
    "phone": {
        "viewport": {"width": 390, "height": 844},
        "color_scheme": "light",
        "has_touch": True,
        "is_mobile": True,
        "device_scale_factor": 1.5,
    },
}


def shoot(browser, address, options, file):
    page = browser.new_context(**options).new_page()
    page.goto(address)
    page.locator("body.is-ready").wait_for(state="attached")
    page.evaluate("""() => {
        const sampling = { seed: 14, temperature: 0.5 };
        localStorage.setItem('halfbyte.defaults', JSON.stringify({ sampling }));
    }""")
    page.reload()
    for question in QUESTIONS:
        page.evaluate("document.getElementById('new').click()")
        page.locator("#input").fill(question)
        page.locator("#send").click()
        page.locator("article.is-last.from-model:not(.is-running)").wait_for(timeout=120_000)
    page.evaluate("document.activeElement.blur()")
    page.wait_for_timeout(500)
    page.screenshot(path=file)
    page.context.close()
    subprocess.run(
        ["pngquant", "--force", "--skip-if-larger", "--output", file, "64", file], check=False
    )
    print(file, file.stat().st_size, "bytes")


def main():
    address, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    folder.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        for name, options in SHOTS.items():
            shoot(browser, address, options, folder / f"chat-{name}.png")


main()
