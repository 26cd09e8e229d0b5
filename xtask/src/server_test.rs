//! `cargo xtask server-test`: programs of other people against `halfbyte serve`.
//!
//! Starts the development build's server over the embedded model and runs the programs of
//! `tests/server` against it: OpenAI's SDKs, schemathesis, malformed requests, many clients.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, bail, ensure};

use crate::process;
use crate::python::environment;
use crate::test::target_dir;

/// Options of `cargo xtask server-test`.
#[derive(clap::Args, Clone, Copy, Default)]
pub(crate) struct Args {
    /// A program that is missing here (Node, or a registry to install an SDK from) is an error.
    #[arg(long)]
    require_all: bool,
    /// Everything, which takes minutes: 10,000 malformed requests instead of 1,000, and schemathesis.
    #[arg(long)]
    long: bool,
}

/// A server that ends with it.
struct Server {
    child: Child,
    url: String,
}

impl Server {
    /// Starts the command that was built for the tests, at a free port.
    fn start(root: &Path) -> anyhow::Result<Self> {
        let name = format!("halfbyte{}", std::env::consts::EXE_SUFFIX);
        let program = target_dir(root).join("debug").join(name);
        let mut command = Command::new(&program);
        command
            .args(["serve", "--port", "0", "--timeout", "60", "--rate", "2000"])
            .stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| program.display().to_string())?;
        let stderr = child.stderr.take().context("standard error was piped")?;
        let mut lines = BufReader::new(stderr).lines();
        let url = lines.find_map(|line| Some(line.ok()?.split_once(" at ")?.1.to_owned()));
        // What it says later is shown, and read, so that it never waits for that.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| println!("{line}")));
        let server = Self { child, url: url.unwrap_or_default() };
        ensure!(server.url.starts_with("http"), "the server did not start");
        Ok(server)
    }

    /// Runs a program that finds the server by `HALFBYTE_URL`.
    fn run(&self, mut command: Command) -> anyhow::Result<()> {
        command.env("HALFBYTE_URL", &self.url);
        process::run(command)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Runs every program that this machine has.
///
/// # Errors
///
/// If one fails; with `require_all` also if one is missing.
pub(crate) fn run(root: &Path, args: Args) -> anyhow::Result<()> {
    let scripts = root.join("tests/server");
    let server = Server::start(root)?;
    let skip = |what: &str, error: anyhow::Error| {
        if args.require_all {
            return Err(error.context(what.to_owned()));
        }
        println!("skipped: {what} ({error})");
        Ok(())
    };
    let mut packages = vec!["openai"];
    if args.long {
        packages.push("schemathesis");
    }
    match environment(&target_dir(root).join("server-venv"), &packages) {
        Err(error) => skip("the SDK for Python", error)?,
        Ok(python) => {
            let script = |name: &str, arguments: &[&str]| {
                let mut command = Command::new(&python);
                command.arg(scripts.join(name)).args(arguments);
                server.run(command)
            };
            script("openai_sdk.py", &[])?;
            script("malformed.py", &[if args.long { "10000" } else { "1000" }])?;
            script("clients.py", &["--tokens", "16"])?;
            if args.long {
                schemathesis(&python, &server)?;
            }
        }
    }
    match node_sdk(root) {
        Err(error) => skip("the SDK for Node", error)?,
        Ok(folder) => {
            // Imports are looked for beside the script.
            let script = folder.join("openai_sdk.mjs");
            std::fs::copy(scripts.join("openai_sdk.mjs"), &script)?;
            let mut command = Command::new("node");
            command.arg(script);
            server.run(command)?;
        }
    }
    println!("server-test: everything is as it should be");
    Ok(())
}

/// No request that the document describes, or just not, may meet a mistake of the server's.
fn schemathesis(python: &Path, server: &Server) -> anyhow::Result<()> {
    let mut command = Command::new(python.with_file_name("schemathesis"));
    command.arg("run").arg(format!("{}/openapi.json", server.url));
    command.args(["--checks", "not_a_server_error", "--max-examples", "50", "--seed", "8"]);
    // It leaves a folder where it runs.
    command.current_dir(python.parent().unwrap_or(python));
    server.run(command)
}

/// A folder with OpenAI's SDK for Node, made if need be.
fn node_sdk(root: &Path) -> anyhow::Result<PathBuf> {
    let folder = target_dir(root).join("server-node");
    if folder.join("node_modules/openai").exists() {
        return Ok(folder);
    }
    let has = |name: &str| {
        let mut command = Command::new(name);
        let status = command.arg("--version").stdout(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    if !has("node") || !has("npm") {
        bail!("there is no node with npm");
    }
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("package.json"), "{ \"private\": true }\n")?;
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-audit", "--no-fund", "--silent", "openai"]).current_dir(&folder);
    process::run(npm)?;
    Ok(folder)
}
