//! Broken and malicious chat templates, in files of the small LLaMA.

use crate::fixtures::string_value;

use super::Case;
use super::gguf::gguf;

/// All of them.
pub(crate) fn cases() -> Vec<Case> {
    CASES
        .iter()
        .map(|&(name, source, says)| template(name, source.replace('N', "4800"), says))
        .collect()
}

/// A case whose file brings that template.
pub(crate) fn template(name: &'static str, source: String, says: &'static str) -> Case {
    gguf(name, ("Template", says), move |f| {
        f.entry("tokenizer.chat_template", string_value(3, &source));
    })
}

/// (what it does, the template, what the message must say)
const CASES: &[(&str, &str, &str)] = &[
    ("is cut off", "{% for m in messages %}{{ m.content }}", "line 1"),
    ("has an unknown tag", "a\n{% frobnicate %}", "line 2"),
    ("is an unclosed expression", "{{ bos_token ", "line 1"),
    ("asks an undefined value for a field", "{{ nothing.at.all }}", "undefined"),
    ("calls an unknown method", "{{ messages[0].content.frobnicate() }}", "frobnicate"),
    ("calls an unknown filter", "{{ messages | frobnicate }}", "frobnicate"),
    ("adds a text and a number", "{{ 'a' + 1 }}", "line 1"),
    ("refuses by itself", "{{ raise_exception('roles must alternate') }}", "roles must alternate"),
    ("wants a file", "{% include '/etc/passwd' %}", "line 1"),
    ("imports a file", "{% import 'os' as os %}{{ os.environ }}", "line 1"),
    ("recurses for ever", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recursion"),
    (
        "recurses in a loop",
        "{% for m in [[[]]] recursive %}{{ loop([[]]) }}{{ loop(loop) }}{% endfor %}",
        "line 1",
    ),
    (
        "loops long",
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "",
    ),
    ("counts a huge range", "{{ range(10000000000) | list | length }}", ""),
    (
        "writes without end",
        "{% for i in range(90000) %}{{ 'aaaaaaaaaaaaaaaaaaaaaaaaa' }}{% endfor %}",
        "",
    ),
    ("repeats a text", "{{ 'aaaaaaaaaa' * 1000000000 }}", ""),
    (
        "doubles a text",
        "{% set ns = namespace(x='a') %}{% for i in range(64) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "steps",
    ),
    (
        "doubles a list",
        "{% set ns = namespace(x=[1]) %}{% for i in range(64) %}{% set ns.x = ns.x + ns.x %}{% endfor %}\
         {{ ns.x }}",
        "",
    ),
    (
        "nests lists as deep as it can and prints them",
        "{% set ns = namespace(x=[]) %}{% for i in range(840) %}{% set ns.x = \
         [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[ns.x]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]] %}\
         {% endfor %}{{ ns.x }}",
        "steps",
    ),
    (
        "nests lists and prints them",
        "{% set ns = namespace(x=[]) %}{% for i in range(90000) %}{% set ns.x = [[[[ns.x]]]] %}\
         {% if i == N %}{{ ns.x }}{% endif %}{% endfor %}",
        "",
    ),
    (
        "nests lists",
        "{% set ns = namespace(x=[]) %}{% for i in range(90000) %}{% set ns.x = [[[[[[[[ns.x]]]]]]]] %}\
         {% endfor %}{{ ns.x | tojson }}",
        "",
    ),
    (
        "nests lists, then writes JSON",
        "{% set ns = namespace(x=[]) %}{% for i in range(500) %}{% set ns.x = [ns.x] %}{% endfor %}\
         {{ ns.x | tojson }}",
        "levels",
    ),
    (
        "shares a list 2^60 times and writes JSON",
        "{% set ns = namespace(x=['aaaa']) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}\
         {% endfor %}{{ ns.x | tojson }}",
        "",
    ),
    (
        "shares a list 2^60 times and prints it",
        "{% set ns = namespace(x=['aaaa']) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}\
         {% endfor %}{{ ns.x }}",
        "",
    ),
    (
        "repeats and adds a list",
        "{% set ns = namespace(x=[1]) %}{% for i in range(64) %}{% set ns.x = ns.x * 1 + 1 * ns.x %}\
         {% endfor %}{{ ns.x }}",
        "",
    ),
    ("multiplies a list", "{{ {(['a'] * 100000000): 1} }}", "multiplied"),
    ("multiplies by a list", "{{ 2 * [1] | list }}", "multiplied"),
    (
        "chains a list",
        "{% set ns = namespace(x=[1]) %}{% for i in range(64) %}{% set ns.x = ns.x | chain(ns.x) %}\
         {% endfor %}{{ ns.x | list | length }}",
        "chain",
    ),
    ("indents a text", "{{ 'a\nb' | indent(1000000000) }}", ""),
    ("formats a text", "{{ '%1000000000d' % 1 }}", ""),
    ("formats widely", "{{ '{:>1000000000}'.format(1) }}", "format"),
    ("formats as widely as told", "{{ '{:>{}}'.format(1, 1000000000) }}", "format"),
    ("prints nested lists prettily", "{{ [[[[messages]]]] | pprint }}", "pprint"),
    ("indents without end", "{{ messages | tojson(indent=1000000000) }}", "indent"),
    ("pads a text", "{{ '%1000000000d' | format(1) }}", ""),
    ("centers a text", "{{ 'a'.center(1000000000) }}", ""),
    ("sleeps by a date", "{{ strftime_now('%Q') }}", "%Q"),
];
