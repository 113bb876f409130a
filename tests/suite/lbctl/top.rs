//! `lbctl top` on a terminal: what it shows, and how it leaves the terminal behind.

use std::fs::File;
use std::io::Read;
use std::io::Write;
use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::process::Child;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::pty::Winsize;
use nix::pty::grantpt;
use nix::pty::openpty;
use nix::pty::posix_openpt;
use nix::pty::ptsname_r;
use nix::pty::unlockpt;
use nix::sys::signal::Signal;
use nix::sys::signal::kill;
use nix::sys::termios::LocalFlags;
use nix::sys::termios::tcgetattr;
use nix::unistd::Pid;

use crate::fixtures::Host;
use crate::fixtures::Verdict;
use crate::fixtures::XdpLink;
use crate::fixtures::vip;
use crate::fixtures::wait_until;
use crate::fixtures::written_to;

const VIP: &str = "tcp://10.200.1.1:80";
const SOON: Duration = Duration::from_secs(20);

const ROWS: NonZero<u16> = NonZero::new(24).unwrap();
const COLUMNS: NonZero<u16> = NonZero::new(80).unwrap();

/// What ratatui writes whenever it draws: it hides the cursor.
const HIDES: &str = "\x1b[?25l";

/// What a program writes to leave the alternate screen.
const LEAVES: &str = "\x1b[?1049l";

/// `lbctl top` on a terminal. It is killed when it is dropped.
struct Top {
    child: Child,
    keys: File,
    terminal: OwnedFd,
    output: Arc<Mutex<Vec<u8>>>,
}

impl Top {
    fn start(host: &Host) -> Self {
        Self::on(host, ROWS.get(), COLUMNS.get())
    }

    /// On a terminal of this size.
    fn on(host: &Host, ws_row: u16, ws_col: u16) -> Self {
        let size = Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).expect("a terminal");
        let end = || Stdio::from(pty.slave.try_clone().expect("a descriptor"));
        let child = host
            .ns
            .command(env!("CARGO_BIN_EXE_lbctl"))
            .args(["--bpffs", host.bpffs.text(), "top", "--interval", "0.2"])
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .expect("starts");
        let keys = File::from(pty.master);
        let output = written_to(&keys);
        Self { child, keys, terminal: pty.slave, output }
    }

    fn output(&self) -> String {
        String::from_utf8_lossy(&self.output.lock().expect("nobody panics")).into_owned()
    }

    #[track_caller]
    fn wait_for(&self, text: &str) {
        assert!(wait_until(SOON, || self.output().contains(text)), "{text}: {:?}", self.output());
    }

    /// The screen as a person sees it, in one text.
    fn screen(&self) -> String {
        let mut screen = vt100::Parser::new(ROWS, COLUMNS, 0);
        screen.process(&self.output.lock().expect("nobody panics"));
        let lines: Vec<_> = screen.screen().rows(0, COLUMNS.get()).collect();
        lines.iter().map(|line| line.trim_end()).collect::<Vec<_>>().join("\n")
    }

    #[track_caller]
    fn shows(&self, what: impl Fn(&str) -> bool) -> String {
        let shown = wait_until(SOON, || what(&self.screen()));
        assert!(shown, "{}", self.screen());
        self.screen()
    }

    fn is_raw(&self) -> bool {
        let modes = tcgetattr(&self.terminal).expect("a terminal has modes");
        !modes.local_flags.intersects(LocalFlags::ICANON | LocalFlags::ECHO)
    }

    #[track_caller]
    fn ends_well(mut self) {
        let ended = wait_until(SOON, || self.child.try_wait().expect("wait").is_some());
        assert!(ended, "it goes on: {:?}", self.output());
        assert_eq!(self.child.wait().expect("wait").code(), Some(0), "{:?}", self.output());
        self.wait_for(LEAVES);
        assert!(!self.is_raw(), "the terminal is as it was");
    }
}

impl Drop for Top {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A host, and what the other end of its interface needs, or native XDP loses all that it sends.
fn host() -> (Host, XdpLink) {
    let host = Host::new();
    let pass = XdpLink::attach(&host.ns, "nobody", Verdict::Pass);
    host.lbctl().apply(&Host::config(&vip(VIP, &["10.0.0.1", "10.0.0.2, state = \"drain\""])));
    (host, pass)
}

#[test]
fn keys_go_into_a_vip_and_out_of_the_program() {
    let (host, _pass) = host();
    let mut top = Top::start(&host);
    top.wait_for(VIP);
    assert!(top.is_raw() && !top.output().contains(LEAVES));
    top.keys.write_all(b"\r").expect("a key");
    top.wait_for("drain");
    top.keys.write_all(b"q").expect("a key");
    top.ends_well();
}

#[test]
fn a_vip_without_a_usable_real_is_shown_until_it_has_one() {
    let (host, _pass) = host();
    let dark = "tcp://10.200.1.2:80";
    let top = Top::start(&host);
    top.shows(|screen| screen.contains("\nwell\n"));
    host.lbctl().ok(&["vip", "add", dark]);
    let screen = top.shows(|screen| screen.contains("\nNOT WELL: "));
    assert!(screen.contains(&format!("\nNOT WELL: no reals: {dark}\n")), "{screen}");
    assert!(screen.contains(", 1 of 2 VIPs without a usable"), "{screen}");
    let row = screen.lines().find(|line| line.starts_with(dark)).expect("its row");
    assert!(row.contains(" 0/0 ! "), "{screen}");
    host.lbctl().ok(&["real", "add", dark, "10.0.0.1"]);
    let screen = top.shows(|screen| screen.contains("\nwell\n"));
    assert!(!screen.contains('!'), "{screen}");
}

#[test]
fn an_instance_that_goes_down_is_shown_in_full_and_may_come_back() {
    let (host, _pass) = host();
    let top = Top::start(&host);
    top.shows(|screen| screen.contains("\nwell\n") && screen.contains(" 1/2 "));
    host.lbctl().ok(&["down"]);
    let screen = top.shows(|screen| screen.contains("does not run"));
    let path = host.bpffs.text();
    // A path is broken anywhere, the rest between words.
    let error: String = screen.lines().take_while(|line| !line.is_empty()).collect();
    let error = error.replace(' ', "");
    let all = format!(
        "instance'default'doesnotrun(nopinsin{path}/l4lb/default);startitwith'lbctlapply-fFILE'"
    );
    assert_eq!(error, all, "{screen}");
    assert!(
        screen.contains(VIP) && !screen.contains("1/2") && !screen.contains("well"),
        "{screen}"
    );
    host.lbctl().apply(&Host::config(&vip(VIP, &["10.0.0.1"])));
    top.shows(|screen| screen.contains("\nwell\n") && screen.contains(" 1/1 "));
}

#[test]
fn sigterm_leaves_the_terminal_as_it_was() {
    let (host, _pass) = host();
    let top = Top::start(&host);
    top.wait_for(VIP);
    kill(Pid::from_raw(top.child.id().cast_signed()), Signal::SIGTERM).expect("a signal");
    top.ends_well();
}

#[test]
fn it_ends_with_its_terminal() {
    let (host, _pass) = host();
    // Programs that other tests start must not inherit it.
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let mut master = posix_openpt(flags).expect("a terminal");
    grantpt(&master).and_then(|()| unlockpt(&master)).expect("a terminal");
    let path = ptsname_r(&master).expect("its other end has a path");
    let slave =
        File::options().read(true).write(true).custom_flags(OFlag::O_NOCTTY.bits()).open(path);
    let slave = slave.expect("its other end");
    let end = || Stdio::from(slave.try_clone().expect("a descriptor"));
    let mut child = host
        .ns
        .command(env!("CARGO_BIN_EXE_lbctl"))
        .args(["--bpffs", host.bpffs.text(), "top", "--interval", "0.2"])
        .stdin(end())
        .stdout(end())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    let (mut output, mut buffer) = (Vec::new(), [0; 4096]);
    // When it draws for the second time, it has waited for a key.
    while String::from_utf8_lossy(&output).matches(HIDES).count() < 2 {
        let length = master.read(&mut buffer).expect("a terminal");
        output.extend(&buffer[..length]);
    }
    drop((master, slave));
    let ended = wait_until(SOON, || child.try_wait().expect("wait").is_some());
    let _ = child.kill();
    let _ = child.wait();
    assert!(ended, "nobody sees it, and it goes on");
}

#[test]
fn without_a_terminal_it_says_so() {
    let output = host().0.lbctl().exits(2, &["top"]);
    assert!(output.stderr.starts_with("error: top needs a terminal"), "{output}");
    assert_eq!((output.stdout.as_str(), output.stderr.lines().count()), ("", 1), "{output}");
}

/// A terminal may report a size for which there is no memory.
#[test]
fn terminals_of_any_size() {
    let host = Host::new();
    host.lbctl().apply(&Host::config(&vip(VIP, &["10.0.0.1"])));
    for (rows, columns) in [(u16::MAX, u16::MAX), (1, u16::MAX), (u16::MAX, 1), (1, 1)] {
        let mut top = Top::on(&host, rows, columns);
        top.wait_for(HIDES);
        top.keys.write_all(b"q").expect("type");
        top.ends_well();
    }
}
