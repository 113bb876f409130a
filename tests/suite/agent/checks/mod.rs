//! Real servers that fail and come back, while clients go on asking.

mod failures;
mod kills;
mod kinds;
mod states;

use std::time::Duration;

use crate::fixtures::Nginx;
use crate::fixtures::Rig;
use crate::fixtures::config;
use crate::fixtures::vip;

/// The VIP of these tests.
const VIP: &str = "tcp://10.200.1.1:80";

const INTERVAL: Duration = Duration::from_millis(500);
const TIMEOUT: Duration = Duration::from_millis(500);
const FALL: u32 = 2;
const RISE: u32 = 2;

/// How much longer than by the clock things may take on a machine that does much else.
const SLACK: Duration = Duration::from_secs(10);

/// nginx on all reals of a rig.
fn nginx_everywhere(rig: &mut Rig) -> Vec<Nginx> {
    rig.servers.clear();
    rig.topology.reals.iter().map(Nginx::start).collect()
}

/// A configuration with a check of type `http`, and further keys of the check and of the VIP.
fn checked(reals: usize, of_check: &str, of_vip: &str) -> String {
    let reals: Vec<_> = (1..=reals).map(|n| format!("10.0.0.{n}")).collect();
    let reals: Vec<_> = reals.iter().map(String::as_str).collect();
    let check = format!(
        "check = {{ type = \"http\", interval = \"{}ms\", timeout = \"{}ms\", fall = {FALL}, rise = {RISE}{of_check} }}\n{of_vip}\n",
        INTERVAL.as_millis(),
        TIMEOUT.as_millis(),
    );
    config(&format!("{}{check}", vip(VIP, &reals)))
}
