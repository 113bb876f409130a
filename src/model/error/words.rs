//! Words that several errors and reports share.

use std::time::Duration;

use crate::model::config::XdpMode;

/// The command that detaches a program from an interface. 'ip link' cannot detach a program that a link holds.
pub(crate) fn detach_command(interface: &str, mode: XdpMode, link: Option<u32>) -> String {
    match (link, mode) {
        (Some(id), _) => format!("bpftool link detach id {id}"),
        // Without the mode, the kernel only looks for a program in the driver.
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
