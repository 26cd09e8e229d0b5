//! `cargo xtask sbom`: lists of what the things that are shipped are made of (SBOM).
//!
//! cargo-cyclonedx writes the lists. Here they lose the path of this checkout, and are held against
//! what cargo itself says.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::process::{Cargo, git};

/// The crate, the file that cargo-cyclonedx writes in its folder, and the list's name in `dist/sbom`.
const SHIPPED: &[(&str, &str, &str)] = &[
    ("halfbyte-python", "halfbyte_native_cdylib", "python"),
    ("halfbyte-cli", "halfbyte_bin", "command"),
    ("halfbyte-capi", "halfbyte_capi_lib-cdylib-staticlib", "library-for-c"),
];

/// The folder where the checkout was, in all lists.
const ROOT: &str = "/halfbyte";

/// Writes the lists into `dist/sbom/`.
///
/// # Errors
///
/// If cargo-cyclonedx is missing, or a list is not as it should be.
pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    ensure!(
        Cargo::has(root, "cyclonedx"),
        "there is no cargo-cyclonedx: cargo install cargo-cyclonedx --locked"
    );
    let arguments = "cyclonedx --quiet --format json --spec-version 1.5 --describe binaries";
    let arguments: Vec<&str> = arguments.split(' ').collect();
    // Of every system, and without what only builds it.
    let list = Cargo::new(root, &arguments).args(&["--target", "all", "--no-build-deps"]);
    // Nothing in them is of the moment: the same commit gives the same lists.
    list.env("SOURCE_DATE_EPOCH", git(root, &["log", "-1", "--format=%ct"])?).run()?;
    let dist = root.join("dist/sbom");
    fs::create_dir_all(&dist)?;
    for &(package, file, name) in SHIPPED {
        let from = root.join("crates").join(package).join(format!("{file}.cdx.json"));
        let text = fs::read_to_string(&from).with_context(|| from.display().to_string())?;
        let text = text.replace(&root.display().to_string(), ROOT);
        let n = check(root, package, &text).with_context(|| format!("the list of {package}"))?;
        let place = dist.join(format!("halfbyte-{name}.cdx.json"));
        fs::write(&place, text)?;
        println!("{}: {n} packages", place.display());
    }
    // It writes a list beside every other manifest of the workspace, too.
    written(root)?.iter().try_for_each(|path| Ok(fs::remove_file(path)?))
}

/// The lists in the workspace's folders.
fn written(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for folder in [root.to_path_buf(), root.join("crates")] {
        for member in fs::read_dir(folder)? {
            let member = member?.path();
            if !member.join("Cargo.toml").exists() {
                continue;
            }
            for file in fs::read_dir(member)? {
                let path = file?.path();
                let is_list = path.to_str().is_some_and(|path| path.ends_with(".cdx.json"));
                found.extend(is_list.then_some(path));
            }
        }
    }
    Ok(found)
}

/// Checks that `text` is a list with every package that cargo links into `package`, and without paths
/// of this machine; returns how many it has.
fn check(root: &Path, package: &str, text: &str) -> anyhow::Result<usize> {
    let list: Value = serde_json::from_str(text)?;
    ensure!(list["bomFormat"] == "CycloneDX", "it is of another format");
    let listed = listed(&list);
    let tree = ["tree", "--quiet", "--package", package, "--edges", "normal"];
    let tree = Cargo::new(root, &tree).args(&["--target", "all", "--prefix", "none"]);
    let output = tree.args(&["--format", "{p}"]).silent_output()?;
    let linked = linked(&output, package);
    ensure!(linked.len() > 20, "cargo tree names {} packages", linked.len());
    let missing: Vec<_> = linked.difference(&listed).collect();
    ensure!(missing.is_empty(), "it lacks {missing:?}");
    let home = std::env::home_dir().context("there is no home folder")?;
    for folder in [root, &home] {
        let folder = folder.display().to_string();
        ensure!(!text.contains(&format!("{folder}/")), "it names {folder}");
    }
    Ok(listed.len())
}

/// Names and versions of the components.
fn listed(list: &Value) -> BTreeSet<(String, String)> {
    let components = list["components"].as_array().into_iter().flatten();
    components
        .filter_map(|one| Some((one["name"].as_str()?.into(), one["version"].as_str()?.into())))
        .collect()
}

/// Names and versions in lines such as `half v2.7.1 (proc-macro)`, but for the package itself.
fn linked(tree: &str, package: &str) -> BTreeSet<(String, String)> {
    tree.lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            Some((words.next()?.to_owned(), words.next()?.strip_prefix('v')?.to_owned()))
        })
        .filter(|(name, _)| name != package)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_linked_and_what_is_listed_are_compared_by_name_and_version() {
        let tree = "halfbyte-cli v0.1.0 (/x)\nhalf v2.7.1\nserde_derive v1.0.2 (proc-macro)\n\n";
        let pair = |(name, version): (&str, &str)| (name.to_owned(), version.to_owned());
        let wanted = [("half", "2.7.1"), ("serde_derive", "1.0.2")].map(pair);
        assert_eq!(linked(tree, "halfbyte-cli"), BTreeSet::from(wanted));
        let list = serde_json::json!({"components": [{"name": "half", "version": "2.7.1"}, {}]});
        assert_eq!(listed(&list), BTreeSet::from([pair(("half", "2.7.1"))]));
    }
}
