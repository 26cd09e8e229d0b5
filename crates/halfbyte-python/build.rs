//! Tells macOS's linker that the interpreter brings the names that are still missing.

fn main() {
    pyo3_build_config::add_extension_module_link_args();
}
