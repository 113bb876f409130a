//! Offloads of veth: senders on the balancer's own host leave work to a network card that does not exist.

use std::io;
use std::process::Child;

use super::Patient;
use crate::fixtures::HttpClient;
use crate::fixtures::NetNs;
use crate::fixtures::Rig;
use crate::fixtures::UPLINK;
use crate::fixtures::config_in_mode;
use crate::fixtures::server;
use crate::fixtures::vip;

const PLACE: &str = "interface uplink";
const VIP: &str = "tcp://10.200.1.1:80";

/// Bytes of an upload: some hundred segments.
const UPLOAD: usize = 300_000;

/// A process in a network namespace, by which others find it.
struct Inhabitant(Child);

impl Inhabitant {
    fn of(ns: &NetNs) -> Self {
        Self(ns.command("sleep").arg("600").spawn().expect("sleep"))
    }
}

impl Drop for Inhabitant {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Uploads by way of the VIP.
fn upload(rig: &Rig) -> io::Result<()> {
    let response = HttpClient::connect(rig.client(), server(VIP))?.put(UPLOAD)?;
    assert_eq!(response.status, 200, "{response:?}");
    Ok(())
}

/// Clients, balancer and reals in namespaces of one host: doctor names the offload that hurts, and its command fixes it.
fn hurts_and_is_fixed(mode: &str, words: &[&str]) {
    // Whatever the balancer runs in: a real in generic mode on the same host would know what is left to do.
    let rig = Rig::new(1);
    rig.lbctl().apply(&config_in_mode(mode, &vip(VIP, &["10.0.0.1"])));
    let balancer = Patient::new(rig.lbctl(), &rig.topology.balancer.ns, &[]);
    // Doctor cannot see a namespace without a process or a name.
    balancer.is_advised("sender-offloads", PLACE, "note", "'ethtool -K to-balancer tx off'");
    let inhabitant = Inhabitant::of(&rig.topology.router);
    balancer.is_well("sender-offloads", PLACE);
    upload(&rig).expect("an upload");
    let [real] = &rig.topology.reals[..] else { panic!("one real") };
    let lbctl = rig.lbctl().in_ns(&real.ns);
    let served = Patient::new(lbctl, &real.ns, &["--instance", &real.name, "--real"]);
    served.is_well("wrong-checksums", "host");

    rig.client().shell(&format!("ethtool -K {UPLINK} tx on tso on gso on"));
    rig.topology.router.shell("ethtool -K to-balancer tx on tso on gso on");
    let found = balancer.finds("sender-offloads", PLACE, "warning", words);
    let command = format!("nsenter --net=/proc/{}/ns/net ethtool -K", inhabitant.0.id());
    assert!(
        found["fix"]["command"].as_str().is_some_and(|text| text.starts_with(&command)),
        "{found}"
    );
    let status = rig.lbctl().ok(&["status"]);
    assert!(status.stdout.contains("warning"), "{status}");
    // Not in generic mode: what makes frames reach the client in this network makes its kernel cut segments, and other
    // links have a packet finished that still knows that it is not.
    if mode == "native" {
        let error = upload(&rig).expect_err("an upload that does not get through");
        assert!(
            [io::ErrorKind::TimedOut, io::ErrorKind::WouldBlock].contains(&error.kind()),
            "{error}"
        );
        let found = served.find("wrong-checksums", "host").expect("a finding");
        assert!(found["what"].as_str().is_some_and(|what| what.contains(" of TCP")), "{found}");
    }
    balancer.fix(&found);
    balancer.is_well("sender-offloads", PLACE);
    upload(&rig).expect("an upload");
}

#[test]
fn unfinished_checksums() {
    hurts_and_is_fixed("native", &["to-balancer", "tx-checksum-ip-generic"]);
}

#[test]
fn uncut_segments() {
    hurts_and_is_fixed("generic", &["tx-checksum-ip-generic", "tx-tcp-segmentation"]);
}
