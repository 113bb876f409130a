//! The change from one encapsulation to another, applied under running connections: nothing is lost on reals that take
//! both.

use super::nothing_dropped;
use super::taken_out;
use crate::fixtures::HttpClient;
use crate::fixtures::Rig;
use crate::fixtures::config;
use crate::fixtures::goes_on;
use crate::fixtures::json;
use crate::fixtures::server;
use crate::fixtures::vip;
use crate::fixtures::wait_until;

const VIP: &str = "tcp://10.200.1.4:80";

/// Reals of both families, so that both kinds of outer header change.
const REALS: [&str; 3] = ["10.0.0.1", "fc00::2", "10.0.0.3"];

/// What the reals count, for either family of outer headers.
const GUE: [&str; 2] = ["gue1_ipv4_in_ipv4", "gue1_ipv4_in_ipv6"];
const IPIP: [&str; 2] = ["ipv4_in_ipv4", "ipv4_in_ipv6"];

/// So many connections miss one of three reals with a probability of 10⁻⁷.
const MAX_UPLOADS: usize = 40;

fn with(encapsulation: &str) -> String {
    let packets = format!(
        "\n[packets]\nencapsulation = \"{encapsulation}\"\nencap_source_v4 = \"172.31.0.2/32\"\n\
         encap_source_v6 = \"fc00:31::2/128\"\n"
    );
    config(&(packets + &vip(VIP, &REALS)))
}

/// How many packets the balancer has sent to reals.
#[track_caller]
fn sent(rig: &Rig) -> u64 {
    let stats = json(&rig.lbctl().ok(&["stats", "--json"]));
    let reals = stats["reals"].as_object().expect("reals").values();
    reals.map(|real| real["packets"].as_u64().expect("a number")).sum()
}

/// Everything that the balancer sent was taken out by a real: nothing was lost on the way, refused or damaged.
#[track_caller]
fn all_arrived(rig: &Rig, before: (u64, u64)) {
    let is_success = |name: &str| name.contains("_in_");
    let mut counts = (0, 0);
    let equal = wait_until(std::time::Duration::from_secs(10), || {
        // A packet may be between the two.
        counts = (sent(rig) - before.0, taken_out(rig, is_success) - before.1);
        counts.0 == counts.1
    });
    assert!(equal, "{} packets sent to reals, {} taken out there", counts.0, counts.1);
}

#[test]
fn nothing_is_lost_when_ipip_becomes_gue_and_back() {
    let rig = Rig::new(3);
    rig.lbctl().apply(&with("ipip"));
    let before = (sent(&rig), taken_out(&rig, |name| name.contains("_in_")));

    // Several, so that there is one from each real; what they upload goes by way of the balancer.
    let downloads: Vec<_> = (0..6).map(|_| rig.download(VIP)).collect();
    let client = rig.client();
    let upload = |client| {
        let mut client = HttpClient::connect(client, server(VIP)).expect("connect");
        client.put(super::UPLOAD * 10)
    };
    for (encapsulation, kinds) in [("gue", GUE), ("ipip", IPIP), ("gue", GUE)] {
        let counts = || kinds.map(|kind| taken_out(&rig, |name| name == kind));
        let begin = counts();
        std::thread::scope(|scope| {
            let uploads: Vec<_> = (0..3).map(|_| scope.spawn(|| upload(client))).collect();
            rig.lbctl().apply(&with(encapsulation));
            for upload in uploads {
                let answer = upload.join().expect("no panic");
                let answer = answer.unwrap_or_else(|error| panic!("{encapsulation}: {error}"));
                assert_eq!(answer.status, 200, "{encapsulation}: {}", answer.body);
            }
        });
        for download in &downloads {
            goes_on(download, encapsulation);
        }
        // Chance chooses the real of each connection: both families have to be met.
        let met = || counts().iter().zip(begin).all(|(now, begin)| *now > begin + 100);
        for _ in 0..MAX_UPLOADS {
            if met() {
                break;
            }
            upload(client).expect("upload");
        }
        assert!(met(), "{encapsulation}: {kinds:?} were {begin:?}, are {:?}", counts());
    }
    nothing_dropped(&rig);
    drop(downloads);
    all_arrived(&rig, before);
}
