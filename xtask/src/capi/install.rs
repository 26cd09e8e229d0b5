//! `cargo xtask install`: the library, its headers, and what pkg-config and CMake look for.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::header::CRATE;
use crate::process::Cargo;
use crate::test::target_dir;

/// Options of `cargo xtask install`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The folder that gets `include/` and `lib/`, such as /usr/local.
    #[arg(long)]
    prefix: PathBuf,
    /// Install the development build instead of the release build.
    #[arg(long)]
    debug: bool,
}

/// What the files are called on one system.
struct Names {
    os: &'static str,
    /// What cargo calls the shared library, and the static one.
    built: [&'static str; 2],
    /// What they are called when installed; `{abi}` is the interface's version.
    installed: [&'static str; 2],
    /// The name without version that links point to the shared library by.
    link: Option<&'static str>,
    /// What cargo calls the import library, and what it is called when installed.
    import: Option<[&'static str; 2]>,
    /// What the static library needs from the system, as rustc names it
    /// (`--print native-static-libs`).
    system: &'static str,
}

const NAMES: &[Names] = &[
    Names {
        os: "linux",
        built: ["libhalfbyte_capi.so", "libhalfbyte_capi.a"],
        installed: ["libhalfbyte.so.{abi}", "libhalfbyte.a"],
        link: Some("libhalfbyte.so"),
        import: None,
        system: "-lgcc_s -lutil -lrt -lpthread -lm -ldl",
    },
    Names {
        os: "macos",
        built: ["libhalfbyte_capi.dylib", "libhalfbyte_capi.a"],
        installed: ["libhalfbyte.{abi}.dylib", "libhalfbyte.a"],
        link: Some("libhalfbyte.dylib"),
        import: None,
        system: "-liconv -lSystem -lm",
    },
    Names {
        os: "windows",
        // The import library names the file that it was made for, so that keeps its name.
        built: ["halfbyte_capi.dll", "halfbyte_capi.lib"],
        installed: ["halfbyte_capi.dll", "halfbyte_static.lib"],
        link: None,
        import: Some(["halfbyte_capi.dll.lib", "halfbyte.lib"]),
        system: "-lkernel32 -lntdll -luserenv -lws2_32 -ldbghelp",
    },
];

/// The files that name places and versions: in the crate, when installed.
const TEMPLATES: &[(&str, &str)] = &[
    ("install/halfbyte.pc.in", "lib/pkgconfig/halfbyte.pc"),
    ("install/halfbyte-static.pc.in", "lib/pkgconfig/halfbyte-static.pc"),
    ("install/halfbyte-config.cmake.in", "lib/cmake/halfbyte/halfbyte-config.cmake"),
    (
        "install/halfbyte-config-version.cmake.in",
        "lib/cmake/halfbyte/halfbyte-config-version.cmake",
    ),
];

/// Builds and installs.
///
/// # Errors
///
/// If the library cannot be built, or a file not be written.
pub(crate) fn run(root: &Path, args: &Args) -> anyhow::Result<()> {
    // All of the workspace's libraries: features, and so candle, are then those of every build.
    let build = Cargo::new(root, &["build", "--workspace", "--lib"]);
    let (build, profile) =
        if args.debug { (build, "debug") } else { (build.args(&["--release"]), "release") };
    build.run()?;
    install(root, &target_dir(root).join(profile), &args.prefix)
}

/// Installs what was built into `built`.
///
/// # Errors
///
/// If a file cannot be read or written.
pub(crate) fn install(root: &Path, built: &Path, prefix: &Path) -> anyhow::Result<()> {
    let folder = root.join(CRATE);
    let abi = abi_version(&folder)?;
    let names = NAMES.iter().find(|names| names.os == std::env::consts::OS).unwrap_or(&NAMES[0]);
    for header in ["halfbyte.h", "halfbyte.hpp"] {
        copy(&folder.join("include").join(header), &prefix.join("include").join(header))?;
    }
    let lib = prefix.join("lib");
    let [shared, archive] = names.installed.map(|name| name.replace("{abi}", &abi));
    copy(&built.join(names.built[0]), &lib.join(&shared))?;
    copy(&built.join(names.built[1]), &lib.join(&archive))?;
    if let Some([made, installed]) = names.import {
        copy(&built.join(made), &lib.join(installed))?;
    }
    if let Some(link) = names.link {
        symlink(&shared, &lib.join(link))?;
    }
    for (template, place) in TEMPLATES {
        let template = folder.join(template);
        let text = fs::read_to_string(&template).with_context(|| template.display().to_string())?;
        let text = text
            .replace("@VERSION@", env!("CARGO_PKG_VERSION"))
            .replace("@SHARED@", &shared)
            .replace("@STATIC@", &archive)
            .replace("@IMPORT@", names.import.map_or("", |[_, installed]| installed))
            .replace("@SYSTEM@", names.system)
            .replace("@SYSTEM_LIST@", &names.system.replace(' ', ";"));
        write(&prefix.join(place), &text)?;
    }
    println!("installed into {}", prefix.display());
    Ok(())
}

/// `HB_ABI_VERSION` in the header.
fn abi_version(folder: &Path) -> anyhow::Result<String> {
    let header = fs::read_to_string(folder.join("include/halfbyte.h"))?;
    let line = header.lines().find_map(|line| line.strip_prefix("#define HB_ABI_VERSION "));
    Ok(line.context("the header defines HB_ABI_VERSION")?.to_owned())
}

fn write(place: &Path, text: &str) -> anyhow::Result<()> {
    let folder = place.parent().context("a file lies in a folder")?;
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    fs::write(place, text).with_context(|| place.display().to_string())
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let folder = to.parent().context("a file lies in a folder")?;
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    // Removed first: a process that has the old one mapped keeps it.
    drop(fs::remove_file(to));
    fs::copy(from, to).with_context(|| from.display().to_string())?;
    Ok(())
}

#[cfg(unix)]
fn symlink(target: &str, link: &Path) -> anyhow::Result<()> {
    drop(fs::remove_file(link));
    std::os::unix::fs::symlink(target, link).with_context(|| link.display().to_string())
}

#[cfg(not(unix))]
fn symlink(target: &str, link: &Path) -> anyhow::Result<()> {
    let folder = link.parent().context("a file lies in a folder")?;
    copy(&folder.join(target), link)
}
