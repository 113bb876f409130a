//! The control API of `lbctl serve`: HTTP and JSON on a Unix socket.

mod changes;
mod checks;
pub(super) mod client;
mod drain;
mod hostile;
mod interrupted;
mod reading;
mod schema;
mod sockets;

/// A VIP with three reals, in the file that is served.
pub(super) const VIPS: &str = r#"
[[vips]]
address = "10.200.1.1"
port = 80
protocol = "tcp"
reals = [{ address = "10.0.0.1" }, { address = "10.0.0.2" }, { address = "fc00::3", weight = 2 }]

[[vips]]
address = "fc00:1::2"
port = 443
protocol = "udp"
routing = ["quic-connection-id"]
no_real = "reject"
other_ports = "drop"
reals = [{ address = "10.0.0.1" }, { address = "10.0.0.2", state = "drain" }]

[[server_ids]]
id = 7
real = "10.0.0.1"
"#;

/// The path of the first of these.
const WEB: &str = "/v1/vips/tcp/10.200.1.1/80";
