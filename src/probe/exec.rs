//! `exec`: a program ends with exit code 0.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::ExitStatus;

use nix::sys::signal::Signal;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;
use tokio::process::Command;
use tokio::sync::Semaphore;

use super::MAX_READ;
use super::failure::Failure;
use super::failure::Success;
use super::report::Class;
use super::session::Session;
use super::session::Silence;
use crate::kernel::child::Program;
use crate::kernel::child::command;
use crate::kernel::executable;
use crate::model::config::CheckConfig;
use crate::model::error::CheckError;
use crate::model::text::quote;

/// How many programs run at a time. A program takes memory and processes that no other check does.
static AT_A_TIME: Semaphore = Semaphore::const_new(32);

/// The most bytes of output that are kept, for its first line.
const MAX_KEPT: usize = 512;

/// A program.
#[derive(Debug)]
pub(super) struct Exec {
    program: PathBuf,
    args: Vec<String>,
}

impl Exec {
    pub(super) fn new(config: &CheckConfig) -> Result<Self, CheckError> {
        let program = config.program.clone().ok_or(CheckError::Missing { key: "program" })?;
        if !program.is_absolute() {
            return Err(CheckError::file("program", &program, "it needs an absolute path"));
        }
        match executable::why_not(&program) {
            Some(why) => Err(CheckError::file("program", &program, why)),
            None => Ok(Self { program, args: config.args.clone() }),
        }
    }

    fn command(&self, session: &Session) -> Command {
        let mut command = command(&self.program);
        let vip = session.vip;
        command
            .args(&self.args)
            .env("L4LB_VIP", vip.to_string())
            .env("L4LB_VIP_ADDRESS", vip.address.to_string())
            .env("L4LB_VIP_PORT", vip.port.to_string())
            .env("L4LB_PROTOCOL", vip.protocol.to_string())
            .env("L4LB_REAL", session.real.to_string())
            .env("L4LB_PORT", session.target.port().to_string())
            .env("L4LB_TIMEOUT", session.timeout.as_secs_f64().to_string());
        if let Some(mark) = session.mark {
            command.env("L4LB_MARK", mark.to_string());
        }
        command
    }
}

pub(super) async fn run(session: &mut Session, exec: &Exec) -> Result<Success, Failure> {
    session.silence = Silence::Local("too many programs run already");
    let Ok(_slot) = AT_A_TIME.acquire().await else {
        return Err(Failure::local("programs are not run any more"));
    };
    session.wait_for("no end of the program");
    let local = |error: io::Error| Failure::local(format!("cannot start the program: {error}"));
    let (output, write_output) = io::pipe().map_err(local)?;
    let mut command = exec.command(session);
    command.stdout(write_output.try_clone().map_err(local)?).stderr(write_output);
    let mut program = Program::start(&mut command).map_err(local)?;
    // This process's own ends of the pipe.
    drop(command);
    session.step("started", || exec.program.display().to_string());
    let mut output = Receiver::from_owned_fd(OwnedFd::from(output)).map_err(local)?;
    let (mut kept, mut length, mut open) = (Vec::new(), 0, true);
    let mut buffer = [0; 4096];
    let status = loop {
        tokio::select! {
            // First what it wrote, then its end.
            biased;
            read = output.read(&mut buffer), if open => {
                let read = read.map_err(local)?;
                open = read != 0;
                length += read;
                kept.extend_from_slice(&buffer[..read.min(MAX_KEPT - kept.len())]);
                if length > MAX_READ {
                    let reason = format!("output of more than {} KiB", MAX_READ / 1024);
                    return Err(Failure::new(Class::Exec, reason));
                }
            }
            status = program.wait() => break status.map_err(local)?,
        }
    };
    let text = String::from_utf8_lossy(&kept);
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    session.step("output", || format!("{length} bytes: {}", quote(line)));
    judge(status, line)
}

/// What an exit says.
fn judge(status: ExitStatus, line: &str) -> Result<Success, Failure> {
    let end = match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => match Signal::try_from(signal) {
            Ok(signal) => format!("killed by {signal}"),
            Err(_) => format!("killed by signal {signal}"),
        },
        (None, None) => "ended in an unknown way".to_owned(),
    };
    let reason = if line.is_empty() { end } else { format!("{end}: {line}") };
    if status.success() { Ok(Success::new(reason)) } else { Err(Failure::new(Class::Exec, reason)) }
}
