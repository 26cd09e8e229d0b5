//! `halfbyte chat` without a terminal: a line is a turn or a command.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::program::{Ran, command, pipe};

/// Arguments of a chat whose answers are short and always the same.
const CHAT: &[&str] = &["chat", "-n", "6", "--temperature", "0"];

const QUESTION: &str = "Tell me a story.";

/// A folder for conversations.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        std::fs::write(self.path(name), bytes).expect("the folder takes files");
        self.path(name)
    }

    fn json(&self, name: &str) -> Value {
        let bytes = std::fs::read(self.path(name)).expect("the file is there");
        serde_json::from_slice(&bytes).expect("JSON")
    }
}

/// What is said in the saved conversation `file`, in turns.
fn contents(file: &Value) -> Vec<&str> {
    let messages = file["messages"].as_array().expect("a list");
    messages.iter().map(|message| message["content"].as_str().expect("a text")).collect()
}

/// The answer to `QUESTION`, with its line feed.
fn answer() -> String {
    pipe(CHAT, QUESTION).ok()
}

#[test]
fn each_line_of_a_piped_chat_is_a_turn() {
    let one = pipe(CHAT, "Tell me a story.\n").ok();
    assert!(one.trim().len() > 1, "{one:?}");
    let two = pipe(CHAT, "Tell me a story.\r\n\n  \nWhat then?").ok();
    assert!(two.starts_with(&one) && two.len() > one.len(), "{one:?} {two:?}");
    for leave in ["/exit", "/quit"] {
        assert_eq!(pipe(CHAT, &format!("{QUESTION}\n{leave}\nWhat then?\n")).ok(), one);
    }
    for again in [
        "/undo\nTell me a story.",
        "/regenerate",
        "/reset\nTell me a story.",
        "/reset\n/undo\n/regenerate",
    ] {
        assert_eq!(pipe(CHAT, &format!("{QUESTION}\n{again}\n")).ok(), one.repeat(2), "{again}");
    }
    assert_eq!(pipe(CHAT, "").ok(), "");
}

#[test]
fn lines_that_belong_together_are_one_message() {
    let folder = Folder::new();
    let file = folder.path("chat.json");
    let input = format!(
        "first\\\n  second\n\"\"\"\n/help\n\n  me\n\"\"\"\n/usr/bin is full\n/save {}\n",
        file.display()
    );
    let args = ["chat", "-n", "1", "--temperature", "0", "--system", "Be terse."];
    pipe(&args, &input).ok();
    let saved = folder.json("chat.json");
    let said = contents(&saved);
    assert_eq!(
        [said[0], said[1], said[3], said[5]],
        ["Be terse.", "first\n  second", "/help\n\n  me", "/usr/bin is full"]
    );
    assert_eq!(said.len(), 7);
}

#[test]
fn a_chat_that_is_saved_and_loaded_goes_on_as_if_never_left() {
    let folder = Folder::new();
    let file = folder.path("chat.json");
    let first = pipe(CHAT, &format!("{QUESTION}\n/save {}\n", file.display())).ok();
    let saved = folder.json("chat.json");
    assert_eq!((&saved["format"], &saved["version"]), (&json!("halfbyte chat"), &json!(1)));
    assert_eq!(contents(&saved), [QUESTION, first.trim_end_matches('\n')]);
    assert_eq!(saved["settings"]["temperature"], 0.0);
    // The options are in the file, too.
    let second = pipe(&["chat"], &format!("/load {}\nWhat then?\n", file.display())).ok();
    assert_eq!(first + &second, pipe(CHAT, "Tell me a story.\nWhat then?\n").ok());
    // As they were written before there were options in them.
    let old = folder.write("old.json", json!({ "messages": saved["messages"] }).to_string());
    let again = pipe(CHAT, &format!("/load {}\nWhat then?\n", old.display())).ok();
    assert_eq!(again, second);
}

#[test]
fn what_was_replaced_or_forgotten_is_brought_back_once() {
    let folder = Folder::new();
    let file = folder.path("chat.json");
    let other = json!({ "messages": [], "settings": { "top_k": 3 } }).to_string();
    let other = folder.write("other.json", other);
    let before = json!([[QUESTION, answer().trim_end_matches('\n')], 40]);
    for lost in ["/reset".to_owned(), format!("/load {}", other.display())] {
        pipe(CHAT, &format!("{QUESTION}\n{lost}\n/undo\n/save! {}\n", file.display())).ok();
        let saved = folder.json("chat.json");
        assert_eq!(json!([contents(&saved), saved["settings"]["top_k"]]), before, "{lost}");
        let ran = pipe(CHAT, &format!("{QUESTION}\n{lost}\n/undo\n/undo\n/undo\n"));
        assert!(ran.stderr.contains("nothing to take back"), "{lost}: {}", ran.stderr);
    }
}

#[test]
fn no_file_is_overwritten_unasked() {
    let folder = Folder::new();
    let file = folder.write("chat.json", "precious");
    let path = file.display();
    let ran = pipe(CHAT, &format!("{QUESTION}\n/save {path}\n"));
    assert_eq!((ran.status, ran.stdout), (Some(1), answer()));
    assert!(ran.stderr.contains(&format!("/save! {path}")), "{}", ran.stderr);
    assert_eq!(std::fs::read(&file).expect("there"), b"precious");

    pipe(CHAT, &format!("{QUESTION}\n/save! {path}\n")).ok();
    assert_eq!(contents(&folder.json("chat.json"))[0], QUESTION);
    // Nothing else is left there, and nothing but a file is replaced.
    assert_eq!(std::fs::read_dir(folder.0.path()).expect("a folder").count(), 1);
    let ran = pipe(CHAT, &format!("/save! {}\n", folder.0.path().display()));
    assert_eq!(ran.status, Some(1));
    assert!(ran.stderr.contains("is no file"), "{}", ran.stderr);
}

#[cfg(unix)]
#[test]
fn a_saved_chat_is_for_its_owner_and_a_link_stays_one() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    let (file, link) = (folder.write("chat.json", "old"), folder.path("link"));
    std::os::unix::fs::symlink(&file, &link).expect("a link");
    pipe(CHAT, &format!("{QUESTION}\n/save! {}\n", link.display())).ok();
    assert!(link.is_symlink());
    assert_eq!(contents(&folder.json("chat.json"))[0], QUESTION);
    let mode = std::fs::metadata(&file).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_command_speaks_on_standard_error() {
    let answer = answer();
    for (line, words) in [
        ("/help", &["/undo ", "/save! FILE", "Several lines"][..]),
        ("/set", &["temperature ", " 0.0 ", "max_new_tokens ", " 6 ", "context_policy"]),
        ("/set top_p", &["top_p 0.95"]),
        ("/stats", &["of 512 tokens", "0 messages", "template "]),
    ] {
        let ran = pipe(CHAT, &format!("{line}\n{QUESTION}\n"));
        assert_eq!((ran.status, &ran.stdout), (Some(0), &answer), "{line}: {}", ran.stderr);
        for word in words {
            assert!(ran.stderr.contains(word), "no {word} after {line}: {}", ran.stderr);
        }
    }
    let ran = pipe(CHAT, &format!("{QUESTION}\n/stats\n"));
    for word in
        ["2 messages", "6 new tokens", "ended by length", "in all    answers: 1, new tokens: 6,"]
    {
        assert!(ran.stderr.contains(word), "no {word}: {}", ran.stderr);
    }
    assert_eq!(pipe(CHAT, &format!("/set max_new_tokens 0\n{QUESTION}\n")).ok(), "\n");
}

#[test]
fn a_failed_line_does_not_end_the_chat_and_the_status_says_so() {
    let folder = Folder::new();
    let (missing, junk) = (folder.path("missing"), folder.write("junk.json", "{}"));
    let (cut, wrong) = (folder.write("cut.json", "{\"messages\": ["), folder.path("no/such/dir"));
    let answer = answer();
    for (line, words) in [
        ("/bogus".to_owned(), "unknown command /bogus"),
        ("/undo".to_owned(), "there is nothing to take back"),
        ("/regenerate".to_owned(), "there is no question"),
        ("/undo twice".to_owned(), "/undo takes nothing"),
        ("/save".to_owned(), "which file?"),
        (format!("/save {}", wrong.display()), "cannot write"),
        (format!("/load {}", missing.display()), "cannot read"),
        (format!("/load {}", junk.display()), "is no saved conversation: it has no messages"),
        (format!("/load {}", cut.display()), "line 1"),
        (format!("/load {}", folder.0.path().display()), "is no file"),
        ("/set heat 1".to_owned(), "there is no option heat"),
        ("/set top_p 7".to_owned(), "invalid top_p"),
        ("/set stop 7".to_owned(), "stop cannot be 7"),
        ("word ".repeat(5000), "the context holds 512: shorten it"),
    ] {
        let ran = pipe(CHAT, &format!("{line}\n{QUESTION}\n"));
        assert_eq!((ran.status, &ran.stdout), (Some(1), &answer), "{line:.60}: {}", ran.stderr);
        assert!(ran.stderr.starts_with("error: "), "{line:.60}: {}", ran.stderr);
        assert!(ran.stderr.contains(words), "{line:.60}: {}", ran.stderr);
        assert!(ran.stderr.ends_with("error: one line of the input failed\n"), "{}", ran.stderr);
    }
}

#[test]
fn a_turn_that_fails_leaves_the_conversation_as_it_was() {
    let folder = Folder::new();
    let file = folder.path("chat.json");
    let bias = "/set logit_bias 4000000=1";
    let lines = [QUESTION, bias, "/regenerate", "What then?", "/save"].join("\n");
    let ran = pipe(CHAT, &format!("{lines} {}\n", file.display()));
    assert_eq!((ran.status, ran.stdout), (Some(1), answer()));
    assert_eq!(ran.stderr.matches("outside the vocabulary").count(), 2, "{}", ran.stderr);
    assert!(ran.stderr.contains("2 lines of the input failed"), "{}", ran.stderr);
    let saved = folder.json("chat.json");
    assert_eq!(contents(&saved), [QUESTION, answer().trim_end_matches('\n')]);
}

#[test]
fn input_that_cannot_be_read_is_an_error_that_says_where() {
    for (input, words) in [
        (&b"Tell me a story.\n\xff\xfe\nWhat then?\n"[..], "line 2 is not UTF-8"),
        (b"Tell me a story.\n\"\"\"\nWhat then?\n", "closing \"\"\" is missing"),
    ] {
        let folder = Folder::new();
        let file = std::fs::File::open(folder.write("input", input)).expect("there");
        let ran = Ran::from(command(CHAT).stdin(file).output().expect("the program starts"));
        assert_eq!((ran.status, ran.stdout), (Some(1), answer()));
        assert!(ran.stderr.contains(words), "{}", ran.stderr);
    }
}

#[test]
fn colours_are_for_terminals_or_whoever_asks() {
    let ran = pipe(&["chat", "-n", "1", "--color", "always"], "/bogus\nHello.\n");
    assert!(ran.stderr.starts_with("\x1b[1m\x1b[31merror:\x1b[0m unknown"), "{:?}", ran.stderr);
    assert!(!ran.stdout.contains('\x1b'), "{:?}", ran.stdout);
    let ran = pipe(&["chat", "-n", "1", "--color", "sometimes"], "");
    ran.fails(2, &["sometimes", "never"]);
}

#[cfg(unix)]
#[test]
fn an_interrupt_ends_a_script_with_the_text_so_far() {
    use std::io::{Read, Write};
    use std::process::{Command, Stdio};
    for said in [true, false] {
        let args = ["chat", "-n", "100000", "--ignore-eos", "--shift"];
        let mut command = command(&args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("starts");
        let mut stdin = child.stdin.take().expect("standard input is a pipe");
        stdin.write_all(b"/help\n").expect("it reads");
        child.stderr.as_mut().expect("a pipe").read_exact(&mut [0; 40]).expect("the help");
        if said {
            writeln!(stdin, "{QUESTION}\n/help").expect("it reads");
            child.stdout.as_mut().expect("a pipe").read_exact(&mut [0; 40]).expect("an answer");
        }
        let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
        assert!(kill.expect("kill starts").success());
        let rest = Ran::from(child.wait_with_output().expect("the program ends"));
        assert_eq!(rest.status, Some(130), "{}", rest.stderr);
        assert_eq!(rest.stdout.ends_with('\n'), said);
        assert!(!rest.stderr.contains("/undo  /undo"), "{}", rest.stderr);
        drop(stdin);
    }
}

#[test]
fn paths_may_have_spaces_and_quotes() {
    let folder = Folder::new();
    let path = |name: &str| folder.path(name).display().to_string();
    let input = format!("/save {}\n/save \"{}\"\n", path("a b.json"), path("c d.json"));
    pipe(CHAT, &input).ok();
    for name in ["a b.json", "c d.json"] {
        assert!(Path::exists(&folder.path(name)), "{name}");
        assert_eq!(contents(&folder.json(name)).len(), 0);
    }
}
