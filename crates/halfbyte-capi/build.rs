//! Gives the shared library the name under which `cargo xtask install` installs it.

use std::env::var;

fn main() {
    println!("cargo::rerun-if-changed=src/library.rs");
    let library = std::fs::read_to_string("src/library.rs").unwrap_or_default();
    let version = library.lines().find_map(|line| line.strip_prefix("pub const HB_ABI_VERSION"));
    let version = version.and_then(|rest| rest.split(['=', ';']).nth(1)).map(str::trim);
    let Some(version) = version else {
        println!("cargo::error=src/library.rs has no line `pub const HB_ABI_VERSION: u32 = …;`");
        return;
    };
    match var("CARGO_CFG_TARGET_OS").as_deref() {
        Ok("macos") => {
            let name = format!("@rpath/libhalfbyte.{version}.dylib");
            println!("cargo::rustc-cdylib-link-arg=-Wl,-install_name,{name}");
        }
        Ok("windows") => {}
        _ => println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libhalfbyte.so.{version}"),
    }
}
