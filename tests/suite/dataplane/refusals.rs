//! What clients notice of `other_ports`, `no_real` and `echo`.

use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::net::SocketAddrV4;
use std::net::TcpStream;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::sys::socket::AddressFamily;
use nix::sys::socket::MsgFlags;
use nix::sys::socket::SockFlag;
use nix::sys::socket::SockProtocol;
use nix::sys::socket::SockType;
use nix::sys::socket::SockaddrIn;
use nix::sys::socket::sendto;
use nix::sys::socket::socket;
use serde_json::Value;

use crate::fixtures::Host;
use crate::fixtures::Injector;
use crate::fixtures::NetNs;
use crate::fixtures::Rig;
use crate::fixtures::config;
use crate::fixtures::config_file;
use crate::fixtures::frame::eth;
use crate::fixtures::json;
use crate::fixtures::server;
use crate::fixtures::udp_ask;
use crate::fixtures::vip;
use crate::fixtures::wait_until;

/// Long enough for a refusal; what is dropped takes all of it.
const REFUSED_WITHIN: Duration = Duration::from_secs(60);
const DROPPED: Duration = Duration::from_millis(300);

fn connect(ns: &NetNs, to: SocketAddr, patience: Duration) -> ErrorKind {
    let connected = ns.open(|| TcpStream::connect_timeout(&to, patience));
    connected.map_or_else(|error| error.kind(), |_| panic!("{to} answered"))
}

/// Whether an echo request is answered.
fn ping(ns: &NetNs, address: &str) -> bool {
    let to: Ipv4Addr = address.parse().expect("an address");
    let socket = ns
        .open(|| socket(AddressFamily::Inet, SockType::Raw, SockFlag::empty(), SockProtocol::Icmp));
    let socket = UdpSocket::from(socket.expect("a raw socket"));
    socket.set_read_timeout(Some(DROPPED)).expect("set a timeout");
    // Type 8, code 0, checksum, id 7, sequence number 1.
    let request = [8, 0, 0xf7, 0xf7, 0, 7, 0, 1];
    sendto(
        socket.as_raw_fd(),
        &request,
        &SockaddrIn::from(SocketAddrV4::new(to, 0)),
        MsgFlags::empty(),
    )
    .expect("send");
    let mut buffer = [0; 1500];
    // A raw socket hears all of ICMP, with its IP header.
    while let Ok(length) = socket.recv(&mut buffer) {
        if length == 28 && buffer[12..16] == to.octets() && buffer[20] == 0 {
            return true;
        }
    }
    false
}

#[test]
fn clients_are_refused_at_once() {
    let rig = Rig::new(1);
    let reject = |text: String| text + "other_ports = \"reject\"\nno_real = \"reject\"\n";
    let vips = [
        reject(vip("tcp://10.200.1.4:80", &["10.0.0.1"])),
        reject(vip("udp://10.200.1.5:53", &["10.0.0.1, state = \"drain\""])),
        reject(vip("tcp://[fc00:1::6]:80", &["fc00::1, state = \"down\""])),
        reject(vip("udp://[fc00:1::6]:53", &[])),
    ];
    rig.lbctl().apply(&config(&vips.concat()));
    let client = rig.client();
    for to in ["10.200.1.4:81", "10.200.1.5:80", "[fc00:1::6]:80", "[fc00:1::6]:81"] {
        let to: SocketAddr = to.parse().expect("an address");
        assert_eq!(connect(client, to, REFUSED_WITHIN), ErrorKind::ConnectionRefused, "{to}");
    }
    for to in ["10.200.1.4:53", "10.200.1.5:53", "[fc00:1::6]:53", "[fc00:1::6]:54"] {
        let to: SocketAddr = to.parse().expect("an address");
        let error = udp_ask(client, to, "query").expect_err("nobody is there");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{to}");
    }
    assert!(rig.reason("reset_reply") >= 4 && rig.reason("unreachable_reply") >= 4);
    // A VIP that works does so beside it.
    let answer = crate::fixtures::http_get(client, server("tcp://10.200.1.4:80"), "/");
    assert_eq!(answer.expect("the real answers").real, "real1");
}

#[test]
fn clients_of_dropped_ports_wait() {
    let rig = Rig::new(1);
    let drop = vip("tcp://10.200.1.4:80", &["10.0.0.1"]) + "other_ports = \"drop\"\n";
    rig.lbctl().apply(&config(&(drop + &vip("tcp://10.200.1.5:80", &[]))));
    for (to, reason) in [("tcp://10.200.1.4:81", "other_port"), ("tcp://10.200.1.5:80", "no_real")]
    {
        assert_eq!(connect(rig.client(), server(to), DROPPED), ErrorKind::TimedOut, "{to}");
        assert!(rig.reason(reason) > 0, "{to}");
    }
}

/// Commands that change reals change whether echo requests are answered.
#[test]
fn echo_follows_the_reals() {
    let rig = Rig::new(1);
    let echo = vip("tcp://10.200.1.4:80", &["10.0.0.1"]) + "echo = \"when-usable\"\n";
    rig.lbctl().apply(&config(&(echo + &vip("udp://10.200.1.4:53", &[]))));
    let (client, lbctl) = (rig.client(), rig.lbctl());
    let vip = "tcp://10.200.1.4:80";
    assert!(wait_until(REFUSED_WITHIN, || ping(client, "10.200.1.4")));
    let change = |arguments: &[&str]| drop(lbctl.ok(arguments));
    for (unusable, usable) in [
        (vec!["real", "drain", vip, "10.0.0.1"], vec!["real", "up", vip, "10.0.0.1"]),
        (vec!["real", "down", vip, "10.0.0.1"], vec!["real", "up", vip, "10.0.0.1"]),
        (
            vec!["real", "weight", vip, "10.0.0.1", "0"],
            vec!["real", "add", "udp://10.200.1.4:53", "10.0.0.1"],
        ),
    ] {
        change(&unusable);
        assert!(!ping(client, "10.200.1.4"), "{unusable:?}");
        change(&usable);
        assert!(wait_until(REFUSED_WITHIN, || ping(client, "10.200.1.4")), "{usable:?}");
    }
    change(&["vip", "delete", "udp://10.200.1.4:53"]);
    assert!(!ping(client, "10.200.1.4"));
    assert!(rig.reason("no_echo") >= 4);
}

/// The same by commands, without a program that was loaded for it.
#[test]
fn commands_say_it_too() {
    let rig = Rig::new(1);
    rig.lbctl().apply(&config(&vip("tcp://10.200.1.5:80", &["10.0.0.1"])));
    let lbctl = rig.lbctl();
    let to = server("tcp://10.200.1.4:22");
    let add =
        ["vip", "add", "tcp://10.200.1.4:80", "--other-ports", "reject", "--no-real", "reject"];
    let added = lbctl.ok(&[&add[..], &["--echo", "never"]].concat()).stdout;
    let rule = "~ address 10.200.1.4: other_ports pass → reject, echo always → never\n";
    assert!(added.contains(rule), "{added}");
    // Of what another VIP of the address says it is told, too; and nothing of a ring that stays.
    let wanted = vip("tcp://10.200.1.5:80", &["10.0.0.1"]) + "no_real = \"reject\"\n";
    let file = config_file(&config(&wanted));
    let plan = lbctl.exits(3, &["plan", "-f", file.path().to_str().expect("a path")]).stdout;
    for line in [
        "~ vip tcp://10.200.1.5:80\n    no_real drop → reject\n",
        "~ address 10.200.1.4: other_ports reject → pass, echo never → always\n",
    ] {
        assert!(plan.contains(line), "{line} in {plan}");
    }
    assert_eq!(connect(rig.client(), to, REFUSED_WITHIN), ErrorKind::ConnectionRefused);
    assert!(!ping(rig.client(), "10.200.1.4"));
    let list = lbctl.ok(&["vip", "list"]).stdout;
    assert!(list.contains("other_ports=reject no_real=reject echo=never"), "{list}");
    let saved = lbctl.ok(&["vip", "list", "--json"]);
    let vips: Value = json(&saved);
    let said = vips.as_array().expect("VIPs").iter().find(|vip| vip["address"] == "10.200.1.4");
    let said = said.expect("the VIP");
    assert_eq!((&said["other_ports"], &said["echo"]), (&"reject".into(), &"never".into()));
    let status = lbctl.ok(&["status"]).stdout;
    assert!(status.contains("0/0, clients are refused"), "{status}");
    let refused = lbctl.exits(1, &["vip", "add", "udp://10.200.1.4:53", "--other-ports", "pass"]);
    assert!(refused.stderr.contains("it is one for all VIPs of an address"), "{refused}");
    let deleted = lbctl.ok(&["vip", "delete", "tcp://10.200.1.4:80"]).stdout;
    assert!(deleted.contains("~ address 10.200.1.4: other_ports reject → pass"), "{deleted}");
    // The host's own again: it has no such address, and forwards it to nobody who answers at once.
    assert!(connect(rig.client(), to, DROPPED) != ErrorKind::ConnectionRefused);
}

/// Who had his share of answers in a second gets more in the next.
#[test]
fn limits_are_by_the_second() {
    let host = Host::new();
    let refusing = vip("tcp://10.200.1.1:80", &["10.0.0.1"]) + "other_ports = \"reject\"\n";
    host.lbctl().apply(&Host::config(&format!("cpus = [0]\n{refusing}")));
    let injector = Injector::new(&host);
    let plain = || eth().ip4("192.0.2.1", "10.200.1.1");
    for (what, frame) in [
        ("echo requests", plain().ping(1, 1)),
        ("other ports", plain().tcp(1000, 81).syn()),
        ("too long", plain().tcp(1000, 80).filled_to(1515)),
    ] {
        let frame = frame.bytes();
        injector.on(0, |send| {
            assert!((0..100_000).any(|_| send(&frame).is_none()), "{what}: there is no limit");
            let again = wait_until(Duration::from_secs(30), || send(&frame).is_some());
            assert!(again, "{what}: never answered again");
        });
    }
}
