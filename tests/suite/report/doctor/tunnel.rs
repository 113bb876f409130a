//! Checks through the tunnel.

use super::Patient;
use crate::fixtures::Host;
use crate::fixtures::config_file;
use crate::fixtures::path_of;
use crate::fixtures::vip;

const PLACE: &str = "VIP address 10.200.1.1";

#[test]
fn what_keeps_checks_from_the_tunnel() {
    let host = Host::new();
    let vip = vip("tcp://10.200.1.1:80", &["10.0.0.1"]);
    let file = config_file(&Host::config(&format!("{vip}check = {{ type = \"tcp\" }}\n")));
    let patient = Patient::new(host.lbctl(), &host.ns, &["-f", path_of(&file)]);
    patient.is_advised("tunnel-blocked", PLACE, "error", "add what is missing");
    host.ns.shell("ip route add default via 172.31.0.254");
    patient.is_well("tunnel-blocked", PLACE);
    patient.is_well("answers-filtered", PLACE);

    // The address of another interface.
    host.ns.shell(
        "ip link add other type veth peer name its-end
         ip addr add 172.40.0.2/24 dev other
         ip link set other up
         ip route add 10.200.1.1 via 172.31.0.254 src 172.40.0.2
         sysctl -qw net.ipv4.conf.other.rp_filter=1",
    );
    patient.is_fixed("answers-filtered", PLACE, "error", &["leave by uplink", "of other"]);

    patient.is_well("mark-rule", "host");
    host.ns.shell("ip -6 rule add fwmark 0x4c340001 lookup 7");
    patient.is_advised("mark-rule", "host", "warning", "set health.first_mark = 0x10000");
    // It says the same of what runs.
    host.lbctl().ok(&["apply", "-f", path_of(&file)]);
    patient.with(&[]).finds("mark-rule", "host", "warning", &["0x4c340001 among them"]);
    patient.with(&[]).is_well("tunnel-blocked", PLACE);
    host.ns.shell("ip -6 rule del fwmark 0x4c340001");
    patient.is_well("mark-rule", "host");
}
