//! `lbctl node drain`: others see that the balancer is about to go, and packets go on.

use std::time::Duration;

use crate::fixtures::METRICS;
use crate::fixtures::Rig;
use crate::fixtures::config;
use crate::fixtures::config_file;
use crate::fixtures::get;
use crate::fixtures::goes_on;
use crate::fixtures::json;
use crate::fixtures::path_of;
use crate::fixtures::vip;

#[test]
fn others_see_it_and_packets_go_on() {
    let rig = Rig::new(1);
    let file = config_file(&config(&vip("tcp://10.200.1.1:80", &["10.0.0.1"])));
    let serve = || {
        let mut serve = rig.lbctl().spawn(&["serve", "-f", path_of(&file)]);
        serve.wait_for("metrics at");
        serve
    };
    let ready = |path: &str| get(&rig.topology.balancer.ns, METRICS, path).expect("an answer");
    let first = serve();
    assert_eq!(ready("/readyz").0, 200);
    let download = rig.download("tcp://10.200.1.1:80");
    let late = rig.lbctl().exits(1, &["node", "drain", "--below", "1", "--timeout", "3s"]);
    assert!(late.stderr.contains("the node goes on draining"), "{late}");
    goes_on(&download, "while the node is drained");
    first.stop();
    rig.lbctl().ok(&["apply", "-f", path_of(&file), "--yes"]);
    let second = serve();
    for path in ["/readyz", "/readyz?strict"] {
        let (status, body) = ready(path);
        assert!(status == 503 && body.starts_with("draining since 2"), "{path}: {status} {body}");
    }
    assert!(ready("/metrics").1.contains("\nl4lb_node_draining 1\n"));
    let status = json(&rig.lbctl().ok(&["status", "--json"]));
    assert!(status["draining_since"].is_u64(), "{status}");
    assert!(rig.lbctl().ok(&["status"]).stdout.contains("\nDRAINING since "));
    drop(download);
    let drained = rig.lbctl().ok(&["node", "drain", "--timeout", "30s"]);
    assert!(drained.stdout.contains("drained: "), "{drained}");
    rig.lbctl().ok(&["node", "undrain"]);
    let is_ready =
        crate::fixtures::wait_until(Duration::from_secs(10), || ready("/readyz").0 == 200);
    assert!(is_ready, "{:?}", ready("/readyz"));
    second.stop();
    rig.lbctl().ok(&["node", "drain", "--no-wait"]);
    rig.lbctl().ok(&["down"]);
    rig.lbctl().ok(&["apply", "-f", path_of(&file)]);
    let status = json(&rig.lbctl().ok(&["status", "--json"]));
    assert!(status["draining_since"].is_null(), "{status}");
}
