//! Output that cannot be written is an error, unless the reader closed the pipe. A command whose stderr is closed does
//! not abort.

use std::fs::File;
use std::io;
use std::process::Output;
use std::process::Stdio;

use nix::unistd::pipe;

use crate::fixtures::Host;
use crate::fixtures::METRICS;
use crate::fixtures::config_file;
use crate::fixtures::get;
use crate::fixtures::path_of;
use crate::fixtures::vip;
use crate::fixtures::wait_until;

const VIP: &str = "tcp://10.200.1.1:80";

/// Commands that print, on a host that balances and decapsulates.
fn printing(file: &str) -> Vec<Vec<&str>> {
    [
        "--help",
        "-h",
        "--version",
        "help",
        "help flows find",
        "serve --help",
        "plan -f FILE",
        "save",
        "save --json",
        "status",
        "status --all",
        "status --json",
        "stats",
        "stats --json",
        "stats --watch 0.1 --count 1",
        "stats --watch 0.1 --count 1 --json",
        "vip list",
        "vip list --json",
        "real list",
        "real list --json",
        "flows list",
        "flows count --by vip",
        "flows count --by vip --json",
        "chain list",
        "chain list --json",
        "decap status",
        "decap status --json",
        "doctor -f FILE",
        "doctor -f FILE --json",
        "trace tcp 192.0.2.1:1000 10.200.1.1:80",
        "trace tcp 192.0.2.1:1000 10.200.1.1:80 --json",
        "dump --duration 1ms -w -",
    ]
    .into_iter()
    .map(|line| line.split(' ').map(|word| if word == "FILE" { file } else { word }).collect())
    .collect()
}

fn host() -> Host {
    let host = Host::new();
    host.lbctl().apply(&Host::config(&vip(VIP, &["10.0.0.1"])));
    host.lbctl().ok(&["decap", "attach", "uplink"]);
    host
}

fn full() -> Stdio {
    File::options().write(true).open("/dev/full").expect("a device that is always full").into()
}

/// The writing end of a pipe that nobody reads.
fn closed() -> io::Result<Stdio> {
    let (reader, writer) = pipe()?;
    drop(reader);
    Ok(writer.into())
}

#[track_caller]
fn run(host: &Host, arguments: &[&str], stdout: Stdio, stderr: Stdio) -> Output {
    let mut command = host.ns.command(env!("CARGO_BIN_EXE_lbctl"));
    command.args(["--bpffs", host.bpffs.text()]).args(arguments);
    command.stdin(Stdio::null()).stdout(stdout).stderr(stderr).output().expect("run lbctl")
}

#[test]
fn output_that_cannot_be_written_is_an_error() {
    let host = host();
    let file = config_file(&Host::config(&vip(VIP, &["10.0.0.1"])));
    let file = path_of(&file);
    for arguments in printing(file) {
        let output = run(&host, &arguments, full(), Stdio::piped());
        let complained = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {complained}");
        let errors: Vec<_> = complained.lines().filter(|line| line.contains("error")).collect();
        let [error] = errors[..] else { panic!("{arguments:?}: one line, not {complained}") };
        let start = if arguments.contains(&"--json") {
            r#"{"error":{"kind":"output","message":"cannot write to standard output: "#
        } else {
            "error: cannot write to standard output: "
        };
        assert!(error.starts_with(start), "{error}");
        assert!(error.contains("No space left on device"), "{arguments:?}: {error}");
    }
}

#[test]
fn a_reader_that_closes_the_pipe_is_no_error() {
    let host = host();
    let file = config_file(&Host::config(&vip(VIP, &["10.0.0.1"])));
    let file = path_of(&file);
    for arguments in printing(file) {
        let output = run(&host, &arguments, closed().expect("a pipe"), Stdio::piped());
        let complained = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {complained}");
        assert!(!complained.contains("error"), "{arguments:?}: {complained}");
    }
}

/// `eprintln!` would panic, and so would the logger.
#[test]
fn a_closed_stderr_is_no_reason_to_abort() {
    let host = Host::new();
    let missing = ["plan", "-f", "/nonexistent.toml"];
    for (arguments, code) in [
        (&["nonsense"][..], 2),
        (&[], 2),
        (&missing, 1),
        (&["status"], 1),
        (&["dump", "-w", "-", "tcp port"], 1),
    ] {
        for stderr in [full(), closed().expect("a pipe")] {
            let output = run(&host, arguments, Stdio::piped(), stderr);
            assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        }
    }
    // Nobody reads the log any more, as when journald is restarted.
    let file = config_file(&Host::config(&vip(VIP, &["10.0.0.1"])));
    let mut command = host.ns.command(env!("CARGO_BIN_EXE_lbctl"));
    command.args(["--bpffs", host.bpffs.text(), "serve", "-f"]).arg(file.path());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(closed().expect("a pipe"));
    let mut serve = command.spawn().expect("start lbctl");
    let answers = wait_until(std::time::Duration::from_secs(20), || {
        matches!(get(&host.ns, METRICS, "/healthz"), Ok((200, ..)))
    });
    let ended = serve.try_wait().expect("look at it");
    let pid = nix::unistd::Pid::from_raw(serve.id().cast_signed());
    if ended.is_none() {
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("end it");
    }
    let status = serve.wait().expect("it ends");
    assert!(answers && ended.is_none() && status.success(), "{ended:?} {status}");
}
