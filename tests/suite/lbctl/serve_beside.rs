//! Other commands beside `lbctl serve`: it serves the state that they leave, not the one it started with.

use std::net::SocketAddr;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::fixtures::Host;
use crate::fixtures::config_file;
use crate::fixtures::http_get;
use crate::fixtures::path_of;
use crate::fixtures::vip;
use crate::fixtures::wait_until;

const VIP: &str = "tcp://10.200.1.1:80";
const PATIENCE: Duration = Duration::from_secs(20);

/// What others do meanwhile with the same instance.
#[test]
fn other_commands_beside_it() {
    let host = Host::new();
    let file = config_file(&Host::config(&vip(VIP, &["10.0.0.1"])));
    let path = path_of(&file);
    let mut serve = host.lbctl().spawn(&["serve", "-f", path]);
    serve.wait_for("metrics at");
    host.lbctl().ok(&["real", "add", VIP, "10.0.0.2"]);
    assert!(host.lbctl().ok(&["save"]).stdout.contains("10.0.0.2"));
    host.lbctl().ok(&["down"]);
    assert!(!host.has_pins("default"));
    host.lbctl().ok(&["apply", "-f", path]);
    host.lbctl().ok(&["vip", "add", "udp://10.200.1.7:53"]);
    let get = || {
        let page = http_get(&host.ns, SocketAddr::from(([127, 0, 0, 1], 9847)), "/metrics");
        page.expect("it answers").body
    };
    assert!(
        wait_until(PATIENCE, || get().contains("udp://10.200.1.7:53")),
        "what runs now:\n{}",
        get()
    );
    serve.signal(Signal::SIGHUP);
    serve.wait_for("reloaded");
    assert!(!host.lbctl().ok(&["save"]).stdout.contains("10.200.1.7"), "the file decides");
    assert_eq!(serve.stop().code(), Some(0));
    host.lbctl().ok(&["plan", "-f", path]);
}
