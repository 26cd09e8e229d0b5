//! The `halfbyte` command.

fn main() -> std::process::ExitCode {
    halfbyte_cli::run(std::env::args_os()).into()
}
