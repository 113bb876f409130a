//! Words that several errors, or errors and reports, have in common.

use std::time::Duration;

use crate::model::config::XdpMode;

/// The command that takes a program off an interface: a link's stays whatever is said of the interface.
pub(crate) fn detach_command(interface: &str, mode: XdpMode, link: Option<u32>) -> String {
    match (link, mode) {
        (Some(id), _) => format!("bpftool link detach id {id}"),
        // Said without its mode, the kernel looks for one in the driver only.
        (None, XdpMode::Generic) => format!("ip link set dev {interface} xdpgeneric off"),
        (None, _) => format!("ip link set dev {interface} xdp off"),
    }
}

pub(super) fn waited(timeout: Duration) -> String {
    match timeout.as_secs() {
        0 if timeout.is_zero() => "this was not to wait".to_owned(),
        0 => format!("was so for {} ms", timeout.as_millis()),
        seconds => format!("was so for {seconds} s"),
    }
}

pub(super) fn detach_hint(interface: &str, mode: XdpMode, link: Option<u32>) -> String {
    let command = detach_command(interface, mode, link);
    match link {
        Some(_) => format!("{command}, or end the program that made the link or remove its pin"),
        None => command,
    }
}
