//! `exec`.

use std::fs;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use super::check;
use super::fails;
use super::run;
use crate::model::config::CheckConfig;
use crate::model::config::CheckKind;
use crate::probe::Class;
use crate::probe::Outcome;
use crate::probe::Prepared;

fn shell(script: &str) -> CheckConfig {
    let mut exec = check(CheckKind::Exec);
    exec.timeout = Some(Duration::from_secs(10));
    exec.program = Some("/bin/sh".into());
    exec.args = vec!["-c".to_owned(), script.to_owned()];
    exec
}

fn server() -> std::net::SocketAddr {
    ([127, 0, 0, 1], 8080).into()
}

#[tokio::test]
async fn the_exit_code_decides() {
    let report = run(&shell("exit 0"), server()).await;
    assert_eq!((report.outcome, report.reason.as_str()), (Outcome::HEALTHY, "exit code 0"));
    let (class, reason) = fails(&shell("exit 2"), server()).await;
    assert_eq!((class, reason.as_str()), (Class::Exec, "exit code 2"));
    let (_, reason) = fails(&shell("echo; echo disk full >&2; echo more; exit 1"), server()).await;
    assert_eq!(reason, "exit code 1: disk full");
    let (_, reason) = fails(&shell("kill -9 $$"), server()).await;
    assert_eq!(reason, "killed by SIGKILL");
}

#[tokio::test]
async fn the_environment_says_what_is_checked() {
    let script = r#"test "$L4LB_VIP" = tcp://10.0.0.1:8080 && test "$L4LB_VIP_ADDRESS" = 10.0.0.1 &&
        test "$L4LB_VIP_PORT" = 8080 && test "$L4LB_PROTOCOL" = tcp && test "$L4LB_REAL" = 127.0.0.1 &&
        test "$L4LB_PORT" = 8081 && test "$L4LB_TIMEOUT" = 10 && test -z "$HOME$CARGO$L4LB_MARK" &&
        ! read -r line && pwd"#;
    let mut exec = shell(script);
    exec.port = Some(8081);
    let report = run(&exec, server()).await;
    assert!(report.outcome.is_healthy() && report.reason == "exit code 0: /", "{report:?}");
}

#[tokio::test]
async fn it_gets_no_open_files() {
    use nix::fcntl::FcntlArg;
    use nix::fcntl::FdFlag;
    use nix::fcntl::fcntl;
    let file = fs::File::open("/etc/passwd").expect("a file");
    fcntl(&file, FcntlArg::F_SETFD(FdFlag::empty())).expect("others may have it");
    let report = run(&shell("ls -l /proc/$$/fd | grep passwd && exit 1; exit 0"), server()).await;
    assert!(report.outcome.is_healthy(), "{report:?}");
}

#[tokio::test]
async fn all_that_it_started_is_killed_at_the_timeout() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let path = file.path().display();
    let mut exec = shell(&format!("sleep 1000 & echo $! > {path}; wait"));
    exec.timeout = Some(Duration::from_secs(2));
    let (class, reason) = fails(&exec, server()).await;
    assert_eq!((class, reason.as_str()), (Class::Timeout, "no end of the program in 2s"));
    let id = fs::read_to_string(file.path()).expect("it has begun");
    let is_alive = || {
        let state = fs::read_to_string(Path::new("/proc").join(id.trim()).join("stat"));
        state.is_ok_and(|state| !state.contains(") Z "))
    };
    let start = Instant::now();
    while is_alive() {
        assert!(start.elapsed() < Duration::from_secs(10), "it lives on");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn endless_output_is_cut_and_children_do_not_hold_it_up() {
    let (class, reason) = fails(&shell("yes"), server()).await;
    assert_eq!((class, reason.as_str()), (Class::Exec, "output of more than 64 KiB"));
    let start = Instant::now();
    let report = run(&shell("sleep 8 & exit 0"), server()).await;
    assert!(report.outcome.is_healthy() && start.elapsed() < Duration::from_secs(6));
}

#[test]
fn programs_that_cannot_run_are_refused() {
    for (program, why) in [
        ("/nonexistent/check", "there is no such file"),
        ("check", "absolute"),
        ("/etc", "it is a folder"),
        ("/etc/passwd", "not executable"),
    ] {
        let mut exec = check(CheckKind::Exec);
        exec.program = Some(program.into());
        let error = Prepared::new(&exec).expect_err(program).to_string();
        assert!(error.starts_with("program: ") && error.contains(why), "{error}");
    }
}
