"""A script for the package gpt4all in which only the import was changed.

    pip install halfbyte
    python examples/gpt4all_chat.py [MODEL [FOLDER]]

Without arguments it talks to the small model inside halfbyte.
"""

from __future__ import annotations

import sys

from halfbyte.gpt4all import GPT4All  # was: from gpt4all import GPT4All


def main() -> None:
    """Two turns of a conversation, the second one streamed."""
    name = sys.argv[1] if len(sys.argv) > 1 else "stories-q4_0.gguf"
    folder = sys.argv[2] if len(sys.argv) > 2 else None
    with GPT4All(name, model_path=folder) as model, model.chat_session():
        print(model.generate("Write a story about a cat named Tom.", max_tokens=80))
        print("---")
        for piece in model.generate("Write a story about a dog.", max_tokens=80, streaming=True):
            print(piece, end="", flush=True)
        print()
        print([message["role"] for message in model.current_chat_session or []])


if __name__ == "__main__":
    main()
