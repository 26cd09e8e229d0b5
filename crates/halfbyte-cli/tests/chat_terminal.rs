//! `halfbyte chat` at a terminal: editing, keys, signals, sizes. The terminal is a pseudo-terminal.
#![cfg(unix)]

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rexpect::process::WaitStatus;
use rexpect::session::{PtySession, spawn_command};
use serde_json::Value;
use tempfile::TempDir;

const CTRL_C: &str = "\x03";
const CTRL_D: &str = "\x04";
const CTRL_U: &str = "\x15";
const CTRL_Z: &str = "\x1a";
const UP: &str = "\x1b[A";
const ALT_ENTER: &str = "\x1b\r";
const BACKSPACE: &str = "\x7f";

/// What the terminal is told before each line that is typed.
const PASTE_ON: &str = "\x1b[?2004h";

/// An answer that nobody waits for the end of.
const ENDLESS: &[&str] = &["-n", "100000", "--ignore-eos", "--shift", "--color", "never"];

/// Someone at a terminal.
struct Person {
    terminal: PtySession,
    tty: String,
    home: PathBuf,
}

/// A folder for what the program keeps.
fn home() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

impl Person {
    /// Starts `halfbyte chat` in a terminal, by a line of a shell that has it in `"$@"`.
    fn start_by(line: &str, home: &Path, columns: usize, args: &[&str]) -> Self {
        let mut command = Command::new("sh");
        let line = format!("tty; stty rows 10 columns {columns}; {line}");
        command.args(["-c", &line, "sh", env!("CARGO_BIN_EXE_halfbyte"), "chat"]).args(args);
        command.env("XDG_STATE_HOME", home).env("TERM", "xterm-256color");
        for name in ["CI", "HALFBYTE_ISA", "NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
            command.env_remove(name);
        }
        let mut terminal = spawn_command(command, Some(30_000)).expect("a terminal");
        let tty = terminal.read_line().expect("the shell says its terminal");
        Self { terminal, tty, home: home.to_owned() }
    }

    /// Starts it without colours, and waits until it does.
    fn start(home: &Path, args: &[&str]) -> Self {
        let plain = [&["--color", "never"][..], args].concat();
        let mut person = Self::start_by("exec \"$@\"", home, 80, &plain);
        person.sees("(/help for commands)").sees(PASTE_ON);
        person
    }

    fn types(&mut self, keys: &str) -> &mut Self {
        let mut rest = keys;
        while !rest.is_empty() {
            let n = self.terminal.send(rest).expect("the terminal takes keys");
            rest = &rest[n..];
        }
        self.terminal.flush().expect("the terminal takes keys");
        self
    }

    /// Waits for `text`.
    #[track_caller]
    fn sees(&mut self, text: &str) -> &mut Self {
        self.terminal.exp_string(text).expect(text);
        self
    }

    /// Types a line, and waits until the next one may be typed.
    #[track_caller]
    fn says(&mut self, text: &str) -> &mut Self {
        self.types(&format!("{text}\r")).sees(PASTE_ON)
    }

    /// What is in the conversation now.
    fn contents(&mut self) -> Vec<String> {
        let path = self.home.join("saved.json");
        self.says(&format!("/save! {}", path.display()));
        let saved = std::fs::read(path).expect("the file is there");
        let saved: Value = serde_json::from_slice(&saved).expect("JSON");
        let messages = saved["messages"].as_array().expect("a list");
        messages.iter().map(|m| m["content"].as_str().expect("a text").to_owned()).collect()
    }

    /// Waits for the end, which must be a good one, and gives what is left on the screen.
    #[track_caller]
    fn leaves(mut self) -> String {
        let rest = self.terminal.exp_eof().expect("the end");
        let status = self.terminal.process().wait().expect("a status");
        assert!(matches!(status, WaitStatus::Exited(_, 0)), "{status:?}");
        rest
    }
}

fn history(home: &Path) -> PathBuf {
    home.join("halfbyte/chat_history")
}

#[test]
fn lines_are_edited_and_remembered_for_their_owner_only() {
    let home = home();
    let mut person = Person::start(home.path(), &[]);
    person.types(&format!("/set top_k 34{BACKSPACE}\r")).sees("top_k 3\r\n").sees(PASTE_ON);
    // A space in front keeps a line out.
    person.says(" /set top_k 5");
    person.types(&format!("{UP}\r")).sees("top_k 3\r\n").sees(PASTE_ON).types(CTRL_D);
    person.leaves();
    let kept = std::fs::read_to_string(history(home.path())).expect("a history");
    assert!(kept.contains("/set top_k 3\n") && !kept.contains("top_k 5"), "{kept}");
    let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&history(home.path())), 0o600);
    assert_eq!(mode(&home.path().join("halfbyte")), 0o700);

    let mut person = Person::start(home.path(), &[]);
    person.types(&format!("{UP}\r")).sees("top_k 3\r\n").sees(PASTE_ON).says("/set top_k 6");
    person.types(CTRL_D);
    person.leaves();
    assert!(std::fs::read_to_string(history(home.path())).expect("there").contains("top_k 6"));
}

#[test]
fn without_history_nothing_is_kept_or_made() {
    let home = home();
    let mut person = Person::start(home.path(), &["--no-history"]);
    person.types("/set top_k 3\r").sees("top_k 3\r\n").sees(PASTE_ON);
    person.types(&format!("{UP}\r")).sees("top_k 3\r\n").sees(PASTE_ON).types("/quit\r");
    person.leaves();
    assert_eq!(std::fs::read_dir(home.path()).expect("a folder").count(), 0);
}

#[test]
fn a_history_that_is_none_is_left_alone_and_no_hindrance() {
    let home = home();
    std::fs::create_dir(home.path().join("halfbyte")).expect("a folder");
    std::fs::write(history(home.path()), b"#V2\n\xff\xfe\n").expect("written");
    let mut person = Person::start_by("exec \"$@\"", home.path(), 80, &[]);
    person.sees("no history is kept").sees(PASTE_ON).says("/set top_k 3").types(CTRL_D);
    person.leaves();
    assert_eq!(std::fs::read(history(home.path())).expect("there"), b"#V2\n\xff\xfe\n");
}

#[test]
fn a_message_may_have_several_lines() {
    let home = home();
    let mut person = Person::start(home.path(), &["-n", "1", "--temperature", "0"]);
    person.types("one\\\rtwo\\").says("\rthree");
    person.says(&format!("four{ALT_ENTER}  five"));
    person.says("\x1b[200~six\r\n  /seven \\\n\n\teight\n\x1b[201~");
    person.says("\"\"\"\r/nine\r\rten\"\"\"");
    let said = person.contents();
    let questions: Vec<_> = said.iter().step_by(2).map(String::as_str).collect();
    assert_eq!(
        questions,
        ["one\ntwo\nthree", "four\n  five", "six\n  /seven \\\n\n\teight", "/nine\n\nten"]
    );
    person.types(CTRL_D);
    person.leaves();
}

#[test]
fn ctrl_c_stops_the_answer_and_not_the_program() {
    let home = home();
    let mut person = Person::start(home.path(), &ENDLESS[..4]);
    person.types("Tell me a story.\r").sees("\n");
    // Ten words of the answer.
    for _ in 0..10 {
        person.sees(" ");
    }
    // A second one that is late does no harm.
    person.types(CTRL_C).types(CTRL_C).sees("(stopped)").sees(PASTE_ON);
    assert_eq!(person.contents().len(), 2);
    person.types("/stats\r").sees("ended by cancelled").sees(PASTE_ON);
    // It gives a line up, and leaves from an empty one only when meant.
    person.types("/quit").types(CTRL_C).sees(PASTE_ON);
    person.types(CTRL_C).sees("Ctrl-C again").sees(PASTE_ON).says("/set top_k 3");
    person.types(CTRL_C).sees("Ctrl-C again").sees(PASTE_ON).types(CTRL_C);
    person.leaves();
}

#[test]
fn an_answer_is_not_lost_to_one_that_is_stopped() {
    let home = home();
    let mut person = Person::start(home.path(), &["--ignore-eos", "--shift"]);
    person.says("/set max_new_tokens 6").says("Tell me a story.");
    let said = person.contents();
    person.says("/set max_new_tokens 100000");
    person.types("/regenerate\r").sees("\n");
    for _ in 0..10 {
        person.sees(" ");
    }
    person.types(CTRL_C).sees("/undo brings").sees(PASTE_ON);
    assert_ne!(person.contents(), said);
    person.types("/undo\r").sees("2 messages are back").sees(PASTE_ON);
    assert_eq!(person.contents(), said);
    person.types(CTRL_D);
    person.leaves();
}

#[test]
fn tab_completes_commands_options_and_files() {
    let home = home();
    std::fs::write(home.path().join("a b.json"), "{}").expect("written");
    let mut person = Person::start(home.path(), &[]);
    person.types("/he\t\r").sees("forget the conversation").sees(PASTE_ON);
    person.types("/se\ttemp\t0.5\r").sees("temperature 0.5\r\n").sees(PASTE_ON);
    person.types(&format!("/load {}/a\t\r", home.path().display()));
    person.sees("a b.json is no saved conversation: it has no messages").sees(PASTE_ON);
    person.types(CTRL_D);
    person.leaves();
}

#[test]
fn a_turn_that_fails_says_what_to_do_and_the_conversation_goes_on() {
    let home = home();
    let mut person = Person::start(home.path(), &["-n", "2"]);
    person.says("Hello.");
    let long = "word ".repeat(1000);
    person.types(&format!("\x1b[200~{long}\x1b[201~\r")).sees("shorten it").sees(PASTE_ON);
    person.types("/nonsense\r").sees("/help lists them").sees(PASTE_ON).says("Goodbye.");
    let said = person.contents();
    assert_eq!((said.len(), said[0].as_str(), said[2].as_str()), (4, "Hello.", "Goodbye."));
    person.types(CTRL_D);
    person.leaves();
}

#[test]
fn bytes_that_are_no_text_cost_a_line_and_not_the_conversation() {
    let home = home();
    let mut person = Person::start(home.path(), &["-n", "1"]);
    person.says("Hello.");
    let mut keys = person.terminal.process().get_file_handle().expect("the terminal");
    keys.write_all(b"caf\xe9!\r").expect("the terminal takes keys");
    person.sees("not UTF-8").sees(PASTE_ON);
    // Whatever is left of that line.
    person.types(CTRL_C).sees(PASTE_ON).says("Goodbye.");
    let said = person.contents();
    assert_eq!((said[0].as_str(), said[said.len() - 2].as_str()), ("Hello.", "Goodbye."));
    person.types(CTRL_D);
    person.leaves();
}

#[test]
fn more_than_an_editor_can_bear_costs_a_line_and_not_the_conversation() {
    let home = home();
    let mut person = Person::start(home.path(), &["-n", "1"]);
    person.says("Hello.");
    let wide = "x".repeat(70_000);
    person.types(&format!("\x1b[200~{wide}\x1b[201~{CTRL_U}"));
    // An editor that learns to do this makes the next line, and `catch_unwind`, superfluous.
    person.sees("the line is lost").sees(PASTE_ON).says("Goodbye.");
    let said = person.contents();
    assert_eq!((said.len(), said[0].as_str(), said[2].as_str()), (4, "Hello.", "Goodbye."));
    person.types(CTRL_D);
    person.leaves();
}

#[test]
fn colours_are_there_unless_unwanted() {
    let home = home();
    let prompt = "\x1b[1m\x1b[32m> \x1b[0m";
    for (args, line, colored) in [
        (&[][..], "exec \"$@\"", true),
        (&[], "NO_COLOR=1 exec \"$@\"", false),
        (&["--color", "never"], "exec \"$@\"", false),
        (&["--color", "always"], "NO_COLOR=1 exec \"$@\"", true),
    ] {
        let mut person = Person::start_by(line, home.path(), 80, args);
        person.types("/bogus\r");
        let shown = person.terminal.exp_string("/bogus; /help").expect("the error");
        assert_eq!(shown.contains(prompt), colored, "{args:?} {line}: {shown:?}");
        let label = "\x1b[1m\x1b[31merror:\x1b[0m unknown";
        assert_eq!(shown.contains(label), colored, "{args:?} {line}: {shown:?}");
        person.sees(PASTE_ON).types(CTRL_D);
        person.leaves();
    }
}

#[test]
fn a_narrow_terminal_that_changes_its_size_loses_nothing() {
    let home = home();
    let args = ["-n", "1", "--temperature", "0"];
    let mut person = Person::start_by("exec \"$@\"", home.path(), 20, &args);
    person.sees(PASTE_ON);
    let long = "Ünïcödé 漢字 🦀 and a line that is much wider than the terminal. ".repeat(4);
    person.types(&long);
    for columns in ["7", "200", "20"] {
        let tty = std::fs::File::open(&person.tty).expect("the terminal");
        let mut stty = Command::new("stty");
        assert!(stty.args(["columns", columns]).stdin(tty).status().expect("stty").success());
        person.types("x");
    }
    person.sees("x").types("\r").sees(PASTE_ON);
    assert_eq!(person.contents()[0], format!("{long}xxx"));
    person.types(CTRL_D);
    person.leaves();
}

#[test]
fn ctrl_z_stops_the_program_until_it_is_wanted_again() {
    let home = home();
    let line = "set -m; \"$@\"; echo out; fg; echo over";
    let mut person = Person::start_by(line, home.path(), 80, ENDLESS);
    person.sees(PASTE_ON).types("/set top_").types(CTRL_Z).sees("out");
    person.sees(PASTE_ON).types("k 3\r").sees("top_k 3\r\n").sees(PASTE_ON).types(CTRL_D);
    assert!(person.leaves().contains("over"));

    // Stopped as it is, it can be ended.
    let line = "set -m; \"$@\"; kill %1; kill -CONT %1; \
                for _ in 1 2 3 4 5 6 7 8 9; do wait %1; status=$?; \
                test $status = 143 && break; sleep 1; done; echo status $status";
    let mut person = Person::start_by(line, home.path(), 80, ENDLESS);
    person.sees(PASTE_ON).types("/set top_").types(CTRL_Z).sees("status 143");
    person.leaves();

    // And while it answers.
    let line = "set -m; \"$@\"; echo out; fg; echo over";
    let mut person = Person::start_by(line, home.path(), 80, ENDLESS);
    person.sees(PASTE_ON).types("Tell me a story.\r").sees("\n").sees(" ").sees(" ");
    person.types(CTRL_Z).sees("out").sees(" ").sees(" ").types(CTRL_C).sees("(stopped)");
    person.sees(PASTE_ON).types(CTRL_D);
    assert!(person.leaves().contains("over"));
}

#[test]
fn an_end_from_outside_gives_the_terminal_back() {
    let home = home();
    let line = "sh -c 'echo pid $$; exec \"$@\"' sh \"$@\"; echo status $?; stty -a; echo over";
    for (signal, status) in [("TERM", "status 143"), ("HUP", "status 129")] {
        let mut person = Person::start_by(line, home.path(), 80, &["-n", "1"]);
        let pid = person.terminal.exp_regex(r"pid \d+").expect("the pid").1;
        person.sees(PASTE_ON).types("half a li").sees("li");
        let pid = pid.trim_start_matches("pid ");
        let kill = Command::new("kill").args(["-s", signal, pid]).status();
        assert!(kill.expect("kill").success());
        person.sees("\x1b[?2004l").sees(status);
        let told = person.leaves();
        let settings: Vec<&str> = told.split_whitespace().collect();
        for setting in ["icanon", "isig", "icrnl"] {
            assert!(settings.contains(&setting), "{signal}: {told}");
        }
    }
}

#[test]
fn a_terminal_that_can_do_little_gets_plain_lines() {
    let home = home();
    let line = "TERM=dumb exec \"$@\"";
    let mut person = Person::start_by(line, home.path(), 80, &["-n", "1"]);
    person.sees("> ").types("/bogus\n").sees("error: unknown command").sees("> ");
    person.types("Hello.\\\n").types("you\n").sees("> ").types(CTRL_D);
    let rest = person.leaves();
    assert!(!rest.contains('\x1b'), "{rest:?}");
}

#[test]
fn without_an_editor_neither_bytes_nor_one_ctrl_c_end_the_conversation() {
    let home = home();
    let line = "TERM=dumb exec \"$@\"";
    let mut person = Person::start_by(line, home.path(), 80, &["-n", "1"]);
    person.sees("> ");
    let mut keys = person.terminal.process().get_file_handle().expect("the terminal");
    keys.write_all(b"caf\xe9!\n").expect("the terminal takes keys");
    person.sees("line 1 is not UTF-8").sees("> ");
    person.types(CTRL_C).sees("Ctrl-C again").types("/bogus\n").sees("/help lists them").sees("> ");
    person.types(CTRL_C).sees("Ctrl-C again").types(CTRL_C);
    person.terminal.exp_eof().expect("the end");
    let status = person.terminal.process().wait().expect("a status");
    assert!(matches!(status, WaitStatus::Exited(_, 130)), "{status:?}");
}
