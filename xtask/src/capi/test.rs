//! `cargo xtask c-test`: programs in C and C++ against an installed library, as a user has it.
//!
//! Installs the development build into an empty folder, compiles the examples and the tests with
//! every compiler that is here, linked both ways, and compares what they print.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

use super::header::CRATE;
use super::tools::{Compiler, Link, has, pkg_config};
use super::{header, install};
use crate::process::{self, Cargo};
use crate::test::target_dir;

/// The programs of `examples/`, and what each must print.
const EXAMPLES: &[(&str, &str)] = &[
    ("generate.c", "generate.txt"),
    ("chat.c", "chat.txt"),
    ("embed.cpp", "embed.txt"),
    ("threads.cpp", "threads.txt"),
];

/// The programs of `tests/c` that count their own cases; they are given [`MODEL`], or "quick".
const TESTS: &[&str] =
    &["adapters.c", "layout.c", "memory.c", "misuse.c", "options.c", "stress.c", "wrapper.cpp"];

/// A small model with a SentencePiece vocabulary.
const MODEL: &str = "tests/data/llama-1k.q4_0.gguf";

/// What finds mistakes in memory, in programs that clang or gcc built for it.
const SANITIZERS: &[&str] = &["-fsanitize=address,undefined", "-fno-sanitize-recover=all"];

/// The tokens whose logits are compared with a Rust program's.
const TOKENS: &[&str] = &["1", "698", "661", "261", "449"];

/// Options of `cargo xtask c-test`.
#[derive(clap::Args, Clone, Copy, Default)]
pub(crate) struct Args {
    /// A tool that is missing is an error; but for Go, whose 470 MB take longer to install than the
    /// tests to run.
    #[arg(long)]
    require_all: bool,
}

/// What one run needs.
struct Setting<'a> {
    root: &'a Path,
    prefix: PathBuf,
    folder: PathBuf,
    args: Args,
}

/// How a program finds the shared library.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Finds {
    /// It has the library inside, or knows where it was installed.
    ByItself,
    /// By a variable of the environment.
    ByVariable,
}

/// Builds, installs and runs everything that this machine has tools for.
///
/// # Errors
///
/// If a program does not compile, fails, or prints something else; with `require_all` also if a tool
/// is missing.
pub(crate) fn run(root: &Path, args: Args) -> anyhow::Result<()> {
    header::run(root, false)?;
    let folder = target_dir(root).join("c-test");
    let setting = Setting { root, prefix: folder.join("prefix"), folder, args };
    let (compilers, missing) = Compiler::all();
    // On Windows the gcc that may be there is not of the family that Rust's library is built for.
    if compilers.is_empty() || !has("pkg-config") || cfg!(windows) {
        return setting.skip(
            "C and C++ programs (they need gcc or clang with C++, and pkg-config, elsewhere than on \
             Windows)",
        );
    }
    missing.iter().try_for_each(|name| setting.skip(&format!("{name} (it is not here)")))?;
    // Examples, too, for the features of the tests: others would compile candle a second time.
    let targets = ["build", "--quiet", "--workspace", "--lib", "--bins", "--examples"];
    Cargo::new(root, &targets).run()?;
    drop(fs::remove_dir_all(&setting.folder));
    install::install(root, &target_dir(root).join("debug"), &setting.prefix)?;
    exports(&setting)?;
    for compiler in &compilers {
        for link in [Link::Shared, Link::Static] {
            programs(&setting, compiler, link)?;
        }
        sanitized(&setting, compiler)?;
    }
    corpus(&setting, &compilers[0])?;
    static_only(&setting, &compilers[0])?;
    watched(&setting, &compilers[0])?;
    cmake(&setting)?;
    go(&setting)?;
    let names: Vec<_> = compilers.iter().map(|compiler| compiler.name).collect();
    println!("c-test: passed with {}", names.join(" and "));
    Ok(())
}

/// The shared library exports the functions of the header and nothing else.
fn exports(setting: &Setting<'_>) -> anyhow::Result<()> {
    if !has("nm") || cfg!(not(target_os = "linux")) {
        return setting.skip("exported symbols (they need nm, on Linux)");
    }
    let mut nm = Command::new("nm");
    nm.args(["-D", "--defined-only"]).arg(setting.prefix.join("lib/libhalfbyte.so"));
    let exported = String::from_utf8(nm.output()?.stdout)?;
    let mut exported: Vec<_> =
        exported.lines().filter_map(|line| line.split_whitespace().last()).collect();
    exported.sort_unstable();
    let header = fs::read_to_string(setting.prefix.join("include/halfbyte.h"))?;
    // A declaration begins a line with its type, or goes on with the type's star.
    let declared = |line: &str| -> Option<String> {
        let line = line.split_once('(')?.0;
        let (start, name) = line.rsplit_once([' ', '*'])?;
        let is_function = !start.starts_with([' ', '/', '#', 't']) && name.starts_with("hb_");
        is_function.then(|| name.to_owned())
    };
    let mut declared: Vec<String> = header.lines().filter_map(declared).collect();
    declared.sort_unstable();
    ensure!(
        exported == declared,
        "the library exports\n{exported:?}\nand the header declares\n{declared:?}"
    );
    println!("{} exported symbols, all of them in the header", exported.len());
    Ok(())
}

/// All programs by one compiler, linked one way.
fn programs(setting: &Setting<'_>, compiler: &Compiler, link: Link) -> anyhow::Result<()> {
    let folder = setting.folder.join(format!("{}-{}", compiler.name, link.package()));
    let flags = pkg_config(&setting.prefix, &[link.package()])?;
    let finds = match link {
        Link::Shared => Finds::ByVariable,
        Link::Static => Finds::ByItself,
    };
    for (source, golden) in EXAMPLES {
        let program =
            compiler.build(&setting.root.join("examples").join(source), &folder, &flags)?;
        compare(setting, &program, finds, golden)?;
    }
    for source in TESTS {
        let program = compiler.build(&tests(setting, source), &folder, &flags)?;
        let mut command = setting.command(program, finds);
        command.arg(setting.root.join(MODEL));
        process::run(command)?;
    }
    let program = compiler.build(&tests(setting, "logits.c"), &folder, &flags)?;
    same_logits(setting, &program, finds)
}

/// Where only the static library is installed, `pkg-config --static` names what that needs.
fn static_only(setting: &Setting<'_>, compiler: &Compiler) -> anyhow::Result<()> {
    let prefix = setting.folder.join("static-only");
    for folder in ["include", "lib/pkgconfig"] {
        fs::create_dir_all(prefix.join(folder))?;
    }
    for file in ["include/halfbyte.h", "lib/libhalfbyte.a", "lib/pkgconfig/halfbyte.pc"] {
        fs::copy(setting.prefix.join(file), prefix.join(file)).with_context(|| file.to_owned())?;
    }
    let flags = pkg_config(&prefix, &["--static", Link::Shared.package()])?;
    let source = setting.root.join("examples/generate.c");
    let program = compiler.build(&source, &prefix, &flags)?;
    compare(setting, &program, Finds::ByItself, "generate.txt")
}

/// The tests with the checks of a sanitizer compiled into their C.
fn sanitized(setting: &Setting<'_>, compiler: &Compiler) -> anyhow::Result<()> {
    let folder = setting.folder.join(format!("{}-sanitized", compiler.name));
    fs::create_dir_all(&folder)?;
    if !compiler.can(SANITIZERS, &folder) {
        return setting.skip(&format!("sanitizers ({} has none here)", compiler.name));
    }
    let mut flags = pkg_config(&setting.prefix, &[Link::Shared.package()])?;
    flags.extend(SANITIZERS.iter().map(|&flag| flag.to_owned()));
    for source in TESTS {
        let program = compiler.build(&tests(setting, source), &folder, &flags)?;
        let mut command = setting.command(program, Finds::ByVariable);
        command.arg("quick");
        process::run(command)?;
    }
    Ok(())
}

/// The broken files of the Rust tests, one after the other in one process, with a sanitizer's checks
/// where there is one.
fn corpus(setting: &Setting<'_>, compiler: &Compiler) -> anyhow::Result<()> {
    let folder = setting.folder.join("corpus");
    let mut write = Command::new(setting.rust("corpus"));
    write.arg(&folder);
    process::run(write)?;
    let mut flags = pkg_config(&setting.prefix, &[Link::Shared.package()])?;
    if compiler.can(SANITIZERS, &folder) {
        flags.extend(SANITIZERS.iter().map(|&flag| flag.to_owned()));
    }
    let program = compiler.build(&tests(setting, "corpus.c"), &folder, &flags)?;
    let mut command = setting.command(program, Finds::ByVariable);
    command.arg(&folder);
    process::run(command)?;
    // Some of the files are large.
    fs::remove_dir_all(&folder).context("the corpus")
}

/// The tests under valgrind, and the command.
fn watched(setting: &Setting<'_>, compiler: &Compiler) -> anyhow::Result<()> {
    if !has("valgrind") {
        return setting.skip("valgrind (it is not here)");
    }
    let folder = setting.folder.join(format!("{}-halfbyte", compiler.name));
    for source in TESTS {
        let name = Path::new(source).file_stem().context("a source file has a name")?;
        let mut command = memcheck(setting);
        command.arg(folder.join(name)).arg("quick");
        process::run(command)?;
    }
    // Plain code, and the best of what valgrind knows, which gives the processor away as one that has
    // no more: not AVX-512.
    for model in [None, Some(setting.root.join(MODEL))] {
        let mut texts = Vec::new();
        for isa in [Some("scalar"), None] {
            let mut command = memcheck(setting);
            command.env_remove("HALFBYTE_ISA").envs(isa.map(|isa| ("HALFBYTE_ISA", isa)));
            command.arg(setting.rust("halfbyte")).args(["generate", "Once upon a time"]);
            command.args(["--max-new-tokens", "8", "--seed", "1", "--threads", "2"]);
            if let Some(model) = &model {
                command.arg("--model").arg(model);
            }
            let output = command.stderr(Stdio::inherit()).output()?;
            ensure!(output.status.success(), "valgrind found a mistake ({})", output.status);
            texts.push(String::from_utf8(output.stdout)?);
        }
        ensure!(texts[0] == texts[1] && !texts[0].is_empty(), "under valgrind: {texts:?}");
    }
    println!("valgrind finds nothing in the tests in C and in the command");
    Ok(())
}

/// valgrind, which fails where memory is used wrongly or lost.
fn memcheck(setting: &Setting<'_>) -> Command {
    let mut command = setting.command("valgrind", Finds::ByVariable);
    command.args(["--quiet", "--error-exitcode=9", "--leak-check=full"]);
    command.args(["--errors-for-leak-kinds=definite", "--show-leak-kinds=definite"]);
    command
}

/// The examples as a CMake project outside the workspace.
fn cmake(setting: &Setting<'_>) -> anyhow::Result<()> {
    if !has("cmake") {
        return setting.skip("CMake (it is not here)");
    }
    let (source, build) = (setting.folder.join("cmake"), setting.folder.join("cmake-build"));
    fs::create_dir_all(&source)?;
    for name in EXAMPLES.iter().map(|(source, _)| *source).chain(["CMakeLists.txt"]) {
        fs::copy(setting.root.join("examples").join(name), source.join(name))?;
    }
    let mut configure = Command::new("cmake");
    configure.arg("-S").arg(&source).arg("-B").arg(&build);
    configure.arg(format!("-DCMAKE_PREFIX_PATH={}", setting.prefix.display()));
    process::run(configure)?;
    let mut make = Command::new("cmake");
    make.arg("--build").arg(&build);
    process::run(make)?;
    for (source, golden) in EXAMPLES {
        let name = source.split('.').next().unwrap_or(source);
        // CMake writes where the library lies into the program.
        compare(setting, &build.join(name), Finds::ByItself, golden)?;
        compare(setting, &build.join(format!("{name}_static")), Finds::ByItself, golden)?;
    }
    Ok(())
}

/// The example in Go, as proof for other languages.
fn go(setting: &Setting<'_>) -> anyhow::Result<()> {
    if !has("go") {
        println!("skipped: Go (it is not here)");
        return Ok(());
    }
    let program = setting.folder.join("generate-go");
    let mut build = setting.command("go", Finds::ByVariable);
    build.env("PKG_CONFIG_PATH", setting.prefix.join("lib/pkgconfig")).env("CGO_ENABLED", "1");
    build.env("GO111MODULE", "off").args(["build", "-o"]).arg(&program);
    process::run({
        build.arg(setting.root.join("examples/generate.go"));
        build
    })?;
    compare(setting, &program, Finds::ByVariable, "generate.txt")
}

/// Compares the raw logits of the C program with those of `tests/bin/logits.rs`.
fn same_logits(setting: &Setting<'_>, program: &Path, finds: Finds) -> anyhow::Result<()> {
    let model = setting.root.join(MODEL);
    let [ours, theirs] = [program, &setting.rust("logits")].map(|program| {
        let mut command = setting.command(program, finds);
        command.arg(&model).args(TOKENS).stderr(Stdio::inherit()).output()
    });
    let (ours, theirs) = (ours?.stdout, theirs?.stdout);
    ensure!(!ours.is_empty() && ours == theirs, "{} gives other logits", program.display());
    println!("{} bytes of logits, equal bit for bit", ours.len());
    Ok(())
}

/// Runs a program, which must print the golden text of that name.
fn compare(
    setting: &Setting<'_>,
    program: &Path,
    finds: Finds,
    golden: &str,
) -> anyhow::Result<()> {
    let output = setting.command(program, finds).stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "{} failed ({})", program.display(), output.status);
    let expected = setting.root.join(CRATE).join("tests/golden").join(golden);
    let expected = fs::read_to_string(&expected).with_context(|| expected.display().to_string())?;
    let found = String::from_utf8_lossy(&output.stdout).replace("\r\n", "\n");
    ensure!(
        found == expected.replace("\r\n", "\n"),
        "{} printed\n{found}\ninstead of\n{expected}",
        program.display()
    );
    println!("{}: prints {golden}", program.display());
    Ok(())
}

fn tests(setting: &Setting<'_>, source: &str) -> PathBuf {
    setting.root.join(CRATE).join("tests/c").join(source)
}

impl Setting<'_> {
    /// Says what is left out; an error where nothing may be.
    fn skip(&self, what: &str) -> anyhow::Result<()> {
        ensure!(!self.args.require_all, "--require-all: cannot test {what}");
        println!("skipped: {what}");
        Ok(())
    }

    /// The program of that name among the Rust tests'.
    fn rust(&self, name: &str) -> PathBuf {
        target_dir(self.root).join("debug").join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
    }

    /// A command in a folder of its own, that finds the shared library as said and no other way.
    fn command(&self, program: impl AsRef<std::ffi::OsStr>, finds: Finds) -> Command {
        let mut command = Command::new(program);
        // Linux's variable and macOS's.
        for variable in ["LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"] {
            match finds {
                Finds::ByVariable => command.env(variable, self.prefix.join("lib")),
                Finds::ByItself => command.env_remove(variable),
            };
        }
        command.current_dir(&self.folder);
        command
    }
}
