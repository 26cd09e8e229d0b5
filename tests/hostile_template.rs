//! Broken and malicious chat templates: each is a typed error, quickly and in bounded memory.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use halfbyte::{ChatTemplate, Error, Message};

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

/// What a template that fails may take.
const LIMIT: Duration = Duration::from_millis(100);

#[test]
fn hostile_templates_are_errors() {
    let messages = [Message::system("Be brief."), Message::user("Hi")];
    let mut failures = Vec::new();
    for (what, source, expected) in CASES {
        let template = ChatTemplate::from_source(source.replace('N', "4800"), "<s>", "</s>");
        let render = || {
            let (peak, start) = (Peak::start(), Instant::now());
            (template.apply(&messages, true), start.elapsed(), peak.bytes())
        };
        let (result, mut time, bytes) = render();
        // Other work on the machine can slow some runs down, but hardly all.
        for _ in 0..9 {
            if time > LIMIT {
                time = time.min(render().1);
            }
        }
        let text = match &result {
            Err(Error::Template(message)) if message.contains(expected) => message.clone(),
            Err(Error::Template(message)) => {
                failures.push(format!("{what}: says {message}"));
                continue;
            }
            other => {
                let shown = format!("{other:?}");
                failures.push(format!("{what}: {}", &shown[..shown.len().min(80)]));
                continue;
            }
        };
        println!("{what}: {text} ({time:?}, {} kB)", bytes >> 10);
        if time > LIMIT || bytes > 16 << 20 {
            failures.push(format!("{what}: took {time:?} and {bytes} bytes"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));

    // The engine compares 2⁶⁰ items in one step: nothing stops that, but the caller goes on.
    let shared = "{% set ns = namespace(x=[1], y=[1]) %}{% for i in range(60) %}\
                  {% set ns.x = [ns.x, ns.x] %}{% set ns.y = [ns.y, ns.y] %}{% endfor %}\
                  {{ {ns.x: 1} == {ns.y: 1} }}";
    let start = Instant::now();
    let result = ChatTemplate::from_source(shared, "", "").apply(&messages, true);
    assert!(matches!(&result, Err(Error::Template(m)) if m.contains("more than 1s")), "{result:?}");
    assert!(start.elapsed() < Duration::from_secs(3));
}

/// Counts live and peak heap bytes of the whole process; this file has one test for that reason.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

struct Peak(usize);

impl Peak {
    fn start() -> Self {
        let live = LIVE.load(Ordering::SeqCst);
        PEAK.store(live, Ordering::SeqCst);
        Self(live)
    }

    fn bytes(&self) -> usize {
        PEAK.load(Ordering::SeqCst).saturating_sub(self.0)
    }
}

#[expect(unsafe_code, reason = "only a global allocator sees the peak of the heap")]
// SAFETY: each call is handed to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Ordering::SeqCst) + layout.size();
        PEAK.fetch_max(live, Ordering::SeqCst);
        // SAFETY: the caller keeps `alloc`'s contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::SeqCst);
        // SAFETY: the caller keeps `dealloc`'s contract, and `alloc` asked the system.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;
