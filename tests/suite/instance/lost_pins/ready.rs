//! `/readyz` where pins are missing.

use std::fs;
use std::time::Duration;

use super::VIP;
use super::folder;
use crate::fixtures::METRICS;
use crate::fixtures::Rig;
use crate::fixtures::config;
use crate::fixtures::config_file;
use crate::fixtures::get;
use crate::fixtures::path_of;
use crate::fixtures::vip;
use crate::fixtures::wait_until;

/// Traffic goes on, so the host is to stay in the routing.
#[test]
fn is_ready_while_only_pins_are_missing() {
    let rig = Rig::new(1);
    let (lbctl, ns) = (rig.lbctl(), &rig.topology.balancer.ns);
    let file = config_file(&config(&vip(VIP, &["10.0.0.1"])));
    let path = path_of(&file);
    let mut serve = lbctl.spawn(&["serve", "-f", path]);
    serve.wait_for("metrics at http");
    let says = |query: &str, status: u16, text: &str| {
        let mut last = None;
        let does = wait_until(Duration::from_secs(60), || {
            // It pins again every few seconds.
            let _ = fs::remove_file(folder(&rig).join("map/vips"));
            last = get(ns, METRICS, query).ok();
            last.as_ref().is_some_and(|(now, body)| *now == status && body.contains(text))
        });
        assert!(does, "{query}: {last:?}");
    };
    says("/readyz", 200, "ready\ninstance 'default': somebody removed map/vips; what runs goes on");
    says("/readyz?strict", 503, "somebody removed map/vips");
    serve.stop();
}
