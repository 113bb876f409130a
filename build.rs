//! Compiles every BPF program to a skeleton, and makes Rust's constants and tables of reasons from the C headers, which
//! are the only definition.

use std::env;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::hash::DefaultHasher;
use std::hash::Hasher as _;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::process::exit;

use libbpf_cargo::SkeletonBuilder;

/// The BPF programs, by the name of their source in `bpf/`.
const OBJECTS: [&str; 7] = ["root", "balancer", "decap", "capture", "copy", "healthcheck", "mss"];

/// A program for the chain, as others write them.
const EXAMPLE: &str = "examples/chain/drop_list.bpf.c";

/// Turns the headers' lists into Rust. The preprocessor does not expand the name beside `##`, but it expands the result.
const LISTS: &str = r"
#define LB_REASON(v, n, h) Reason { verdict: Verdict::v, name: #n, help: h },
#define LB_EVENT(n, h) Named { name: #n, help: h },
REASONS_BEGIN LB_REASONS(LB_REASON) REASONS_END
EVENTS_BEGIN LB_TABLE_EVENTS(LB_EVENT) EVENTS_END
DECAP_BEGIN LB_DECAP_RESULTS(LB_EVENT) DECAP_END
HEALTHCHECK_BEGIN LB_HEALTHCHECK_RESULTS(LB_EVENT) HEALTHCHECK_END
MSS_BEGIN LB_MSS_RESULTS(LB_EVENT) MSS_END
#define LB_CONST(n) pub const n: u32 = LB_##n;
CONSTS_BEGIN
";

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() {
    println!("cargo::rerun-if-changed=bpf");
    println!("cargo::rerun-if-changed=include");
    println!("cargo::rerun-if-env-changed=CLANG");
    if let Err(error) = run() {
        eprintln!("{error}");
        exit(1);
    }
}

fn run() -> Result<()> {
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let clang = clang()?;
    // The benchmark compiles its own programs with these when it runs.
    println!("cargo::rustc-env=LB_CLANG={clang}");
    println!("cargo::rustc-env=LB_CLANG_ARGS={}", clang_args()?.join(" "));
    let version = clang_version(&clang)?;
    println!("cargo::rustc-env=LB_CLANG_VERSION={version}");
    for name in OBJECTS {
        SkeletonBuilder::new()
            .source(format!("bpf/{name}.bpf.c"))
            .obj(out.join(format!("{name}.bpf.o")))
            .clang(&clang)
            .clang_args(clang_args()?)
            .build_and_generate(out.join(format!("{name}.skel.rs")))
            .map_err(|error| format!("bpf/{name}.bpf.c: {error:#}"))?;
    }
    build_example(&clang, &out)?;
    generate_lists(&clang, &out)?;
    list_objects(&version, &out)
}

/// The example of a program for the chain, which `lbctl lab` has with it.
fn build_example(clang: &str, out: &Path) -> Result<()> {
    println!("cargo::rerun-if-changed={EXAMPLE}");
    SkeletonBuilder::new()
        .source(EXAMPLE)
        .obj(out.join("drop_list.bpf.o"))
        .clang(clang)
        .clang_args(clang_args()?)
        .build()
        .map_err(|error| format!("{EXAMPLE}: {error:#}").into())
}

/// The first line of what it says about itself.
fn clang_version(clang: &str) -> Result<String> {
    let version = String::from_utf8(Command::new(clang).arg("--version").output()?.stdout)?;
    Ok(version.lines().next().unwrap_or_default().to_owned())
}

/// Writes the objects and the compiler's version for tests.
fn list_objects(version: &str, out: &Path) -> Result<()> {
    let mut text = format!("const CLANG: &str = {version:?};\n");
    writeln!(text, "const OBJECTS: [(&str, &[u8]); {}] = [", OBJECTS.len())?;
    for name in OBJECTS {
        writeln!(
            text,
            "    ({name:?}, include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{name}.bpf.o\"))),"
        )?;
    }
    text.push_str("];\n");
    Ok(fs::write(out.join("objects.rs"), text)?)
}

/// `$CLANG`, or the first that is installed. The version that the project is checked with comes first.
fn clang() -> Result<String> {
    let asked = env::var("CLANG").ok();
    let candidates = asked.map_or_else(
        || ["clang-19", "clang", "clang-18", "clang-17", "clang-16"].map(String::from).to_vec(),
        |clang| vec![clang],
    );
    for clang in &candidates {
        let found = Command::new(clang).arg("--version").stdout(Stdio::null()).status();
        if found.is_ok_and(|status| status.success()) {
            return Ok(clang.clone());
        }
    }
    Err(format!("no clang found (tried {}); run 'make setup', or set CLANG", candidates.join(", "))
        .into())
}

fn clang_args() -> Result<Vec<String>> {
    let arch = env::var("CARGO_CFG_TARGET_ARCH")?;
    // `-target bpf` does not search Debian's multiarch folder, where asm/types.h lies.
    let multiarch = format!("/usr/include/{arch}-linux-gnu");
    Ok([
        "-Wall",
        "-Wextra",
        "-Werror",
        "-Wno-unused-parameter",
        "-Wno-address-of-packed-member",
        "-mcpu=v3",
        "-idirafter",
        &multiarch,
        // Never -I.: the bpf folder would shadow libbpf's <bpf/…>.
        "-Iinclude",
    ]
    .map(String::from)
    .to_vec())
}

/// Runs the preprocessor over `source` behind abi/abi.h.
fn preprocess(clang: &str, flags: &[&str], source: &str) -> Result<String> {
    let mut child = Command::new(clang)
        .args(["-E", "-P", "-xc", "-target", "bpf"])
        .args(clang_args()?)
        .args(flags)
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().ok_or("no stdin")?;
    write!(stdin, "#include \"l4lb/abi/abi.h\"\n{source}")?;
    drop(stdin);
    let output = child.wait_with_output()?;
    if !output.status.success() {
        return Err(format!("{clang} cannot preprocess include/l4lb/abi/abi.h").into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn generate_lists(clang: &str, out: &Path) -> Result<()> {
    let macros = preprocess(clang, &["-dM"], "")?;
    let mut source = LISTS.to_owned();
    for line in macros.lines() {
        let Some(rest) = line.strip_prefix("#define LB_") else { continue };
        let name = rest.split_whitespace().next().unwrap_or_default();
        // Macros with arguments are the lists, not constants.
        if !name.contains('(') {
            writeln!(source, "LB_CONST({name})")?;
        }
    }
    let text = preprocess(clang, &[], &source)?;
    // Constants of 64 bits have the suffix ULL.
    let lines = text.lines().map(|line| match line.strip_suffix("ULL;") {
        Some(value) => value.replace(": u32 =", ": u64 =") + ";\n",
        None => format!("{line}\n"),
    });
    let text: String = lines.collect();
    let part = |name: &str| -> Result<&str> {
        let (_, rest) = text.split_once(&format!("{name}_BEGIN")).ok_or("list not expanded")?;
        Ok(rest.split_once(&format!("{name}_END")).map_or(rest, |(list, _)| list))
    };
    fs::write(
        out.join("reasons.rs"),
        format!(
            "static REASONS: &[Reason] = &[{}];\nstatic TABLE_EVENTS: &[Named] = &[{}];\n\
             static DECAP_RESULTS: &[Named] = &[{}];\nstatic HEALTHCHECK_RESULTS: &[Named] = &[{}];\n\
             static MSS_RESULTS: &[Named] = &[{}];\n",
            part("REASONS")?,
            part("EVENTS")?,
            part("DECAP")?,
            part("HEALTHCHECK")?,
            part("MSS")?
        ),
    )?;
    fs::write(
        out.join("consts.rs"),
        format!(
            "{}\npub const OBJECT_HASH: u64 = {};\npub const HEALTHCHECK_HASH: u64 = {};\n",
            part("CONSTS")?,
            object_hash(out, "balancer")?,
            object_hash(out, "healthcheck")?
        ),
    )?;
    Ok(())
}

/// Tells one build of a program from another.
fn object_hash(out: &Path, name: &str) -> Result<u64> {
    let mut hasher = DefaultHasher::new();
    hasher.write(&fs::read(out.join(format!("{name}.skel.rs")))?);
    Ok(hasher.finish())
}
