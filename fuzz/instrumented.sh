#!/bin/sh
# A RUSTC_WRAPPER that instruments halfbyte and the parsers below it for libFuzzer, and nothing else:
# libFuzzer looks at every counter after every input, so the rest would cost more than it shows.
name='' before=''
for arg; do
    [ "$before" = --crate-name ] && name=$arg
    before=$arg
done
case $name in
halfbyte | halfbyte_server | safetensors | serde_json | minijinja | llguidance | derivre)
    set -- "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=3 \
        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
        -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares
    ;;
esac
exec "$@"
