#!/usr/bin/env python3
"""Runs other programs on the files that halfbyte runs, in turns, and prints ratios.

    run.py setup
    run.py run --halfbyte target/release/halfbyte --model llama-7b-q4_0.gguf --peer llama.cpp

Python 3.9 or newer, nothing but its standard library; what the peers need is in a virtual
environment of their own. README.md says what is measured.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import report
from machine import Watch

HERE = Path(__file__).resolve().parent
TARGET = HERE.parent.parent / "target"
REQUIREMENTS = HERE / "requirements.txt"

# Runs of one program in one round, with --wait, until others have left it alone.
ATTEMPTS = 4

# name: for --peer; package: a line of requirements.txt; driver: in drivers/; environment: while
# pip builds; options: of pip.
Peer = namedtuple("Peer", "name package driver environment options")
PEERS = [
    # Built here: a wheel would not use all that this processor has.
    Peer("llama.cpp", "llama-cpp-python", "llama_cpp_driver.py",
         {"CMAKE_ARGS": "-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF"},
         ["--no-binary", "llama-cpp-python"]),
    Peer("ctransformers", "ctransformers", "ctransformers_driver.py", {}, []),
    Peer("gpt4all", "gpt4all", "gpt4all_driver.py", {}, []),
    Peer("openvino", "openvino-genai", "openvino_driver.py", {}, []),
]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    names = [peer.name for peer in PEERS]
    for name, function, about in [
        ("setup", setup, "make the virtual environment and install the peers"),
        ("run", run, "measure, and print a table"),
    ]:
        command = commands.add_parser(name, help=about, description=about)
        command.set_defaults(function=function)
        command.add_argument("--venv", type=Path, default=TARGET / "peers-venv",
                             help="the peers' virtual environment (default: %(default)s)")
        command.add_argument("--peer", action="append", choices=names, metavar="NAME",
                             help="only this one, may be repeated: " + ", ".join(names))
        if name == "run":
            add_run_options(command)
    arguments = parser.parse_args()
    return arguments.function(arguments)


def add_run_options(command):
    add = command.add_argument
    add("--halfbyte", type=Path, required=True, help="the program")
    add("--model", type=Path, required=True, help="the GGUF file that all of them run")
    add("--halfbyte-only", action="store_true", help="no peer: a rehearsal")
    add("--rounds", type=positive, default=3, help="default: %(default)s")
    add("--threads", type=positive, default=2, help="default: %(default)s")
    add("--prompt-tokens", type=positive, default=512, help="default: %(default)s")
    add("--new-tokens", type=positive, default=64, help="default: %(default)s")
    add("--timeout", type=positive, default=900,
        help="seconds for one program in one round (default: %(default)s)")
    add("--wait", type=int, default=0, metavar="SECONDS",
        help="wait so long for others to leave the CPU alone before each run, and repeat a run "
             "that they disturbed (default: %(default)s, do neither)")
    add("--scratch", type=Path, default=TARGET / "peers-files",
        help="for files that a peer needs in another format (default: %(default)s)")
    add("--json", action="store_true", help="print one JSON object, with every round")


def positive(text):
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def chosen(arguments):
    return [peer for peer in PEERS if not arguments.peer or peer.name in arguments.peer]


def python_of(venv):
    windows = os.name == "nt"
    return venv / ("Scripts/python.exe" if windows else "bin/python")


def setup(arguments):
    """Installs one peer after another, so that one that fails keeps nobody from the others."""
    python = python_of(arguments.venv)
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(arguments.venv)], check=True)
    missing = 0
    for peer in chosen(arguments):
        print(f"{peer.name}: installing {peer.package} …", flush=True)
        command = [str(python), "-m", "pip", "install", "--quiet", "--constraint",
                   str(REQUIREMENTS), *peer.options, peer.package]
        done = subprocess.run(command, env={**os.environ, **peer.environment},
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode == 0:
            print(f"{peer.name}: installed", flush=True)
            continue
        missing += 1
        print(f"{peer.name}: NOT installed: {why(done.stdout)}", flush=True)
        log = arguments.venv / f"{peer.package}.log"
        log.write_text(done.stdout)
        print(f"{peer.name}: all that pip said is in {log}", flush=True)
    return 1 if missing else 0


def why(output):
    """The line of a program's output that says what went wrong: the first with an error in it."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    for line in lines:
        if re.search(r"\berror\b", line, re.IGNORECASE):
            return line
    return lines[-1] if lines else "it said nothing"


def run(arguments):
    if not arguments.model.is_file():
        sys.exit(f"{arguments.model}: no such file")
    if not arguments.halfbyte.is_file():
        sys.exit(f"{arguments.halfbyte}: no such program")
    peers = [] if arguments.halfbyte_only else chosen(arguments)
    if peers and not python_of(arguments.venv).exists():
        sys.exit(f"{arguments.venv}: no virtual environment; make it with `run.py setup`")
    rounds = {name: [] for name in ["halfbyte", *(peer.name for peer in peers)]}
    for number in range(1, arguments.rounds + 1):
        for name, command in [("halfbyte", halfbyte_command(arguments)),
                              *((peer.name, peer_command(peer, arguments)) for peer in peers)]:
            if any("error" in result for result in rounds[name]):
                continue
            print(f"round {number} of {arguments.rounds}: {name} …", file=sys.stderr, flush=True)
            rounds[name].append(undisturbed(command, arguments))
    rounds["halfbyte"] = [flat(result) for result in rounds["halfbyte"]]
    result = report.summary(rounds, arguments)
    print(json.dumps(result, indent=2) if arguments.json else report.table(result))
    return 1 if "error" in result["programs"][0] else 0


def halfbyte_command(arguments):
    return [str(arguments.halfbyte.resolve()), "bench", "--json", "--repeat", "1", "--depth", "1",
            "--model", str(arguments.model), "--threads", str(arguments.threads),
            "--prompt-tokens", str(arguments.prompt_tokens),
            "--new-tokens", str(arguments.new_tokens)]


def peer_command(peer, arguments):
    return [str(python_of(arguments.venv)), str(HERE / "drivers" / peer.driver),
            "--model", str(arguments.model.resolve()), "--threads", str(arguments.threads),
            "--prompt-tokens", str(arguments.prompt_tokens),
            "--new-tokens", str(arguments.new_tokens),
            "--scratch", str(arguments.scratch.resolve())]


def undisturbed(command, arguments):
    """`measure`, with the share of the CPU that others took meanwhile as `others`."""
    for _ in range(ATTEMPTS if arguments.wait else 1):
        Watch.wait_for_quiet(arguments.wait)
        watch = Watch()
        result = measure(command, arguments)
        result["others"] = watch.others()
        if "error" in result or result["others"] < report.DISTURBED:
            break
    return result


def measure(command, arguments):
    """What a process of its own prints as JSON in the end; `error` if it fails."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(arguments.threads)}
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              env=environment, timeout=arguments.timeout)
    except subprocess.TimeoutExpired:
        return {"error": f"not ready after {arguments.timeout} s"}
    output, errors = (text.decode("utf-8", "replace") for text in (done.stdout, done.stderr))
    # Libraries print, too: what counts is the last object.
    found = last_object(output)
    if done.returncode == 0 and found is not None:
        return found
    if found is not None and "error" in found:
        # The library's own words are better than "failed to load".
        said = why(errors) if "error" in errors.lower() else None
        return {"error": f"{found['error']} ({said})" if said else found["error"]}
    ending = f"exit status {done.returncode}"
    if done.returncode < 0:
        ending = signal.Signals(-done.returncode).name
    return {"error": f"{ending}: {why(errors)}"}


def last_object(output):
    """The last JSON object that starts at a line's beginning and ends the output, or None."""
    for start in reversed([match.start() for match in re.finditer(r"^\{", output, re.MULTILINE)]):
        try:
            return json.loads(output[start:])
        except ValueError:
            continue
    return None


def flat(result):
    """halfbyte's own JSON with the names that drivers use."""
    if "error" in result:
        return result
    return {
        "version": result.get("isa", ""),
        "others": result["others"],
        "prompt_tok_s": result["prompt"]["tok_s"],
        "decode_tok_s": result["decode"]["tok_s"],
        "prompt_fraction": result["prompt"]["fraction"],
        "decode_fraction": result["decode"]["fraction"],
        "read_gb_s": result["limits"]["read_gb_s"],
        "int8_gops": result["limits"]["int8_gops"],
    }


if __name__ == "__main__":
    sys.exit(main())
