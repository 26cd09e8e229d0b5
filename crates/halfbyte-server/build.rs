//! Lists the files of the page, so that all of them come into the binary.

use std::fmt::Write;
use std::path::Path;
use std::{env, fs, io};

/// Types of files that a page has.
const KINDS: &[(&str, &str)] = &[
    ("html", "text/html; charset=utf-8"),
    ("js", "text/javascript; charset=utf-8"),
    ("css", "text/css; charset=utf-8"),
    ("svg", "image/svg+xml"),
    ("png", "image/png"),
    ("ico", "image/x-icon"),
];

fn main() -> io::Result<()> {
    let folder = Path::new(&env::var("CARGO_MANIFEST_DIR").map_err(io::Error::other)?).join("page");
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder)? {
        names.extend(entry?.file_name().into_string());
    }
    names.sort();
    let mut rows = String::new();
    for name in names {
        let kind = KINDS.iter().find(|(end, _)| name.rsplit('.').next() == Some(end));
        let Some((_, kind)) = kind else { continue };
        let path = if name == "index.html" { "/".to_owned() } else { format!("/{name}") };
        let file = folder.join(&name);
        println!("cargo::rerun-if-changed={}", file.display());
        let bytes = format!("include_bytes!({:?})", file.display().to_string());
        let row = format!("    File {{ path: {path:?}, kind: {kind:?}, bytes: {bytes} }},\n");
        rows.write_str(&row).map_err(io::Error::other)?;
    }
    let out = env::var("OUT_DIR").map_err(io::Error::other)?;
    fs::write(Path::new(&out).join("page.rs"), format!("static FILES: &[File] = &[\n{rows}];\n"))
}
