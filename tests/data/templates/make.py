"""Writes cases.json: chat templates with what Python's Jinja makes of them, in the environment of
transformers' apply_chat_template. Needs jinja2 3.1. The templates are our own, in the forms that
published models use."""

import json

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

TEMPLATES = {
    "chatml": """{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}""",
    "llama-2": """{% if messages[0]['role'] == 'system' %}
    {% set turns = messages[1:] %}
    {% set system = '<<SYS>>\n' + messages[0]['content'] + '\n<</SYS>>\n\n' %}
{% else %}
    {% set turns = messages %}
    {% set system = '' %}
{% endif %}
{% for message in turns %}
    {% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{ raise_exception('roles must alternate') }}
    {% endif %}
    {% if message['role'] == 'user' %}
        {{ bos_token + '[INST] ' + (system if loop.first else '') + message['content'].strip() + ' [/INST]' }}
    {% else %}
        {{ ' ' + message['content'].strip() + ' ' + eos_token }}
    {% endif %}
{% endfor %}""",
    "llama-3": """{% set ns = namespace(text='') %}
{%- for message in messages %}
    {%- set ns.text = '<|start_header_id|>' ~ message.role ~ '<|end_header_id|>\n\n' ~ message.content | trim ~ '<|eot_id|>' %}
    {%- if loop.index0 == 0 %}
        {%- set ns.text = bos_token + ns.text %}
    {%- endif %}
    {{- ns.text }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
{%- endif %}""",
    "gemma": """{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}{% for message in messages %}{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}""",
    "reasoning": """{% set ns = namespace(is_first=true, system='') %}{% for message in messages %}{% if message['role'] == 'system' %}{% set ns.system = ns.system + message['content'] %}{% endif %}{% endfor %}{{ bos_token }}{{ ns.system }}
{%- for message in messages if message.role != 'system' %}
  {%- if message.role == 'user' %}
    {%- set ns.is_first = false -%}
    {{- '<|User|>' + message.content }}
  {%- else %}
    {%- set content = message.content.split('</think>')[-1].lstrip('\n') if '</think>' in message.content else message.content %}
    {{- '<|Assistant|>' + content + eos_token }}
  {%- endif %}
{%- endfor -%}
{% if add_generation_prompt and not ns.is_first %}{{ '<|Assistant|>' }}{% endif %}""",
    "generation": """{% for m in messages %}
  {%- if m.role == 'assistant' %}
    {%- generation -%}
    {{ m.content }}{{ eos_token }}
    {%- endgeneration -%}
  {% else %}
{{ m.role | upper }}: {{ m.content }}
  {% endif %}
{% endfor %}""",
    "loops": """{% for m in messages %}{% if m.role == 'system' %}{% continue %}{% endif %}{{ loop.index }}/{{ loop.length }} {{ loop.revindex0 }} {{ loop.last }} {{ loop.cycle('a', 'b') }}
{% if loop.index > 2 %}{% break %}{% endif %}{% else %}none{% endfor %}""",
    "macro": """{% macro turn(role, text, end='|') -%}
<{{ role }}>{{ text | trim }}{{ end }}
{%- endmacro %}
{% for m in messages %}{{ turn(m.role, m.content, end=eos_token if loop.last else '|') }}{% endfor %}""",
    "json": """{{ messages | tojson }}
{{ messages[0] | tojson(indent=2) }}
{{ {'a': [1, 2.5, none, true], 'é<&>': "q'\\""} | tojson }}""",
    "values": """{{ true }} {{ none }} {{ 1 == 1.0 }} {{ 7 // 2 }} {{ -7 % 3 }} {{ 2 ** 3 }} {{ 1 + 2 * 3 - 4 }} {{ 'ab' * 3 }} {{ '-' ~ 1 ~ '-' }}
{{ tools is none }} {{ tools is defined }} {{ nothing is defined }} {{ nothing }}|{{ documents or 'no' }}""",
    "lists": """{% set all = messages + [{'role': 'user', 'content': 'more'}] %}{{ all | length }} {{ all | map(attribute='role') | join(',') }}
{{ messages | selectattr('role', 'equalto', 'user') | list | length }} {{ messages | rejectattr('role', 'equalto', 'user') | map(attribute='content') | first }}
{{ (messages | last).content }} {{ messages[-1].role }} {{ messages[::-1][0]['role'] }} {{ [1, 2] + [3] * 1 if false else [1] | length }}""",
    "texts": """{{ 'a b c'.split(' ')[1] }} {{ ' x '.strip() }}| {{ 'abc'.startswith('ab') }} {{ 'Abc'.lower() }} {{ 'abc'.upper().replace('B', '-') }} {{ 'abc' | replace('b', '') }} {{ 'a,b'.split(',') | join('+') }} {{ 'abc'[1:] }} {{ 'abc'[-1] }} {{ 'title case' | title }} {{ 'x' | default('y') }} {{ nothing | default('y') }} {{ 'é' | length }} {{ 'a' in 'abc' }} {{ 'z' not in 'abc' }} {{ 'abc'.find('c') }} {{ 'a\tb\nc'.splitlines() | length }}""",
    "maps": """{% set d = {'b': 1, 'a': 2} %}{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}{% for k in d %}{{ k }}{% endfor %} {{ d.get('c', 9) }} {{ d['b'] }} {{ d.a }} {{ 'a' in d }} {{ d | dictsort | first | last }} {{ d.keys() | list | length }} {{ d is mapping }} {{ messages is iterable }} {{ 'x' is string }} {{ messages is string }}""",
    "whitespace": """a
  {% if true %}
    b
  {%- endif %}
  {# gone #}
c {{- ' d' -}}
   e
  {%+ if true %}f{% endif +%}
g
""",
    "escapes": """{{ '<b>' + "&" }} {{ '\\n' }} {{ "\\x41" }} {{ "\\u00e9" }} {{ 'it''s' if false else "it's" }} {% raw %}{{ raw }}{% endraw %}""",
}

SYSTEM = {"role": "system", "content": "You are <terse> & kind."}
USER = {"role": "user", "content": "  Hi, what's 2 + 2?\n"}
ANSWER = {"role": "assistant", "content": "<think>hm</think>\n\nFour, \"4\"."}
MORE = {"role": "user", "content": "Größe 😀?"}
CONVERSATIONS = [
    [USER], [SYSTEM, USER], [USER, ANSWER, MORE], [SYSTEM, USER, ANSWER, MORE], [USER, MORE],
]


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(
        x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def environment():
    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    return env


def main():
    cases = []
    for name, source in TEMPLATES.items():
        plain = source.replace("endgeneration", "endif").replace("%- generation", "%- if true")
        template = environment().from_string(plain)
        for messages in CONVERSATIONS:
            for prompt in (True, False):
                case = {"name": name, "messages": messages, "add_generation_prompt": prompt}
                try:
                    case["expected"] = template.render(
                        messages=messages, add_generation_prompt=prompt, bos_token="<s>",
                        eos_token="</s>", tools=None, documents=None,
                    )
                except jinja2.exceptions.TemplateError as error:
                    case["error"] = str(error)
                cases.append(case)
    with open("cases.json", "w") as file:
        json.dump({"templates": TEMPLATES, "cases": cases}, file, indent=1, ensure_ascii=False)
    print(len(cases), "cases")


main()
