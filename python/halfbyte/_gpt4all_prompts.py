"""The prompts of the package gpt4all: templates with ``{0}``, and those of its first versions."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from halfbyte._chat import Message
from halfbyte.errors import TemplateError

if TYPE_CHECKING:
    from halfbyte._model import Model

#: What stands around a message if neither the caller nor the model's file knows better.
DEFAULT_PROMPT_TEMPLATE = "### Human:\n{0}\n\n### Assistant:\n"

#: Texts that end every answer: a model that writes one has begun to speak for the user.
STOPS = [
    f"### {who}" for who in ("Instruction", "Prompt", "Response", "Human", "Assistant", "Context")
]

#: What follows an answer if the template does not say: a blank line.
AFTER_ANSWER = "\n\n"

#: Stand for the message and the answer while a template is taken apart; no text has them.
MESSAGE, ANSWER = "\0", "\1"


def jinja(prompt_template: str) -> str:
    """The chat template of ``prompt_template``, in which ``{0}`` is what the user says.

    ``{1}`` may stand for the answer, so that the template also says what follows it. The system
    message stands in front as it is.
    """
    if re.search(r"%1(?!\d)", prompt_template):
        raise TemplateError("a prompt template marks the user's message by {0}, not by %1")
    try:
        marked = prompt_template.format(MESSAGE, ANSWER)
    except (IndexError, KeyError, ValueError) as error:
        raise TemplateError(
            f"a prompt template may only hold the placeholders {{0}} and {{1}}: {error}"
        ) from error
    before, found, rest = marked.partition(MESSAGE)
    between, ended, after = rest.partition(ANSWER)
    if not found or MESSAGE in rest or ANSWER in before + after:
        raise TemplateError(
            "a prompt template holds {0} once and then, at most once, {1}, "
            f"not {prompt_template!r}"
        )
    before, between, after = map(_literal, (before, between, after if ended else AFTER_ANSWER))
    return (
        "{% for message in messages %}"
        "{% if message.role == 'user' %}{{ " + f"{before} + message.content + {between}" + " }}"
        "{% elif message.role == 'assistant' %}{{ message.content + " + after + " }}"
        "{% else %}{{ message.content }}{% endif %}"
        "{% endfor %}"
    )


def _literal(text: str) -> str:
    """``text`` as a Jinja string."""
    return json.dumps(text, ensure_ascii=False)


def completion_prompt(model: Model, messages: Sequence[Message], header: bool, footer: bool) -> str:
    """The prompt of `chat_completion` in version 0.2: system messages first, then the rest."""
    template = "gpt4all-2023-05"
    system = [message["content"] for message in messages if message["role"] == "system"]
    turns = [message for message in messages if message["role"] != "system"]
    if not turns:
        raise TemplateError("chat_completion needs a message of the user")
    if system:
        turns.insert(0, {"role": "system", "content": "\n".join(system)})
    prompt = model.apply_chat_template(turns, template=template, add_generation_prompt=footer)
    if not header:
        # The introduction is what stands in front of an empty message.
        empty: Message = {"role": "user", "content": ""}
        introduction = model.apply_chat_template(
            [empty], template=template, add_generation_prompt=False
        ).partition("\n### Prompt:")[0]
        prompt = prompt.replace(introduction, "", 1)
    return prompt
