//! Maps of other builds are never misread, and requests that make no sense are refused.

use libbpf_rs::MapCore;
use libbpf_rs::MapFlags;
use libbpf_rs::MapHandle;

use super::*;

/// The program of another build goes on, until this one replaces it and its maps. So does one whose pins are not its own.
#[test]
fn maps_of_another_build() {
    let host = real(&FROM);
    let lbctl = host.lbctl();
    let maps = host.bpffs.path().join("l4lb/default/map");
    let age = |how: &str| {
        let settings = maps.join("decap_settings");
        match how {
            "its version" => {
                let map = MapHandle::from_pinned_path(&settings).expect("a pin");
                let old = [2_u32, 0, 0, 0, 0, 0].map(u32::to_ne_bytes).concat();
                map.update(&0_u32.to_ne_bytes(), &old, MapFlags::ANY).expect("write");
            }
            "no pin" => std::fs::remove_file(&settings).expect("remove"),
            // Maps that the program does not use.
            _ => {
                lbctl.ok(&[
                    "--instance",
                    "fresh",
                    "decap",
                    "attach",
                    "lo",
                    "--address",
                    "10.0.0.9",
                    "--xdp-mode",
                    "generic",
                ]);
                let other = host.bpffs.path().join("l4lb/fresh/map/decap_settings");
                std::fs::remove_file(&settings).expect("remove");
                MapHandle::from_pinned_path(other).expect("a pin").pin(&settings).expect("pin");
            }
        }
    };
    let pinned = "'lbctl decap attach', as before, pins it again";
    for (how, remedy) in [
        ("its version", "'lbctl decap attach' sets it up anew"),
        ("no pin", pinned),
        ("not those of the program", pinned),
    ] {
        age(how);
        let output = lbctl.exits(1, &["decap", "status"]);
        assert_eq!(output.stderr.lines().count(), 1, "{how}: {output}");
        assert!(output.stderr.contains(remedy), "{how}: {output}");
        let mut kernel = Kernel::of(&host);
        let frame = outer(&datagram(CLIENT, VIP));
        send_frame(&host.ns, "nobody", &frame.bytes());
        kernel.got(&host, Some(&datagram(CLIENT, VIP).packet()));

        lbctl.ok(&[&["decap", "attach", UPLINK][..], &FROM].concat());
        assert_eq!(status(&lbctl)["addresses"], json!(["172.31.0.2", "fc00:31::2"]), "{how}");
        assert_eq!(result(&host, &frame.bytes()), "ipv4_in_ipv4", "{how}");
        assert_eq!(
            result(&host, &ip(CLIENT, OWN).around(&datagram(CLIENT, VIP)).bytes()),
            "unknown_source"
        );
    }
    // It can be left as it is, too, and a balancer beside it does not mind.
    age("its version");
    lbctl.apply(&Host::config(""));
    lbctl.ok(&["down"]);
    assert!(host.has_xdp(UPLINK), "decapsulation needs it");
    lbctl.ok(&["decap", "detach", UPLINK]);
    assert!(!host.has_pins("default") && !host.has_xdp(UPLINK));
}

/// One clear line, and nothing is changed.
#[test]
fn requests_that_make_no_sense() {
    let host = Host::new();
    let many: Vec<_> = (0..65).flat_map(|n| ["--to".to_owned(), format!("10.0.0.{n}")]).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    for (arguments, code, words) in [
        (
            &["--from", "172.16.5.0/16"][..],
            1,
            "--from: 172.16.5.0/16 has bits set behind the prefix; write 172.16.0.0/16",
        ),
        (&["--to", "127.0.0.0/8"], 1, "--to: 127.0.0.0/8: loopback addresses"),
        (&["--to", "ff00::/8"], 1, "multicast"),
        (&["--address", "224.0.0.1"], 1, "--address: 224.0.0.1: a multicast address"),
        (&many, 1, "--to: 65 are given, 64 is the most"),
        (&["--gue-port", "1,2,3,4,5"], 1, "--gue-port: 5 are given, 4 is the most"),
        (&["--mss", "535"], 1, "--mss: 535 is out of range; write 536 to 9176, or auto"),
        (&["--mss", "9177"], 1, "--mss: 9177 is out of range"),
        (&["--mss", "0"], 1, "--mss: 0 is out of range"),
        (&["--mss", "65536"], 2, "write a number of bytes from 536 to 9176, or auto"),
        (&["--mss", "tiny"], 2, "write a number of bytes from 536 to 9176, or auto"),
        (&["--gue-port", "none,6080"], 1, "--gue-port: 'none' stands alone"),
        (&["--gue-port", "0"], 2, "write a port from 1 to 65535, or none"),
        (&["--gue-port", "65536"], 2, "write a port from 1 to 65535, or none"),
        (&["--from", "balancers"], 2, "write it like 192.0.2.0/24"),
    ] {
        for command in ["attach", "serve"] {
            let output =
                host.lbctl().exits(code, &[&["decap", command, UPLINK], arguments].concat());
            assert_eq!(output.stderr.lines().count(), 1, "{output}");
            assert!(output.stderr.contains(words), "'{words}' in {output}");
            assert!(!host.has_pins("default"));
        }
    }
}

/// A host with thousands of addresses.
#[test]
fn a_host_with_many_addresses() {
    let host = real(&[]);
    let lbctl = host.lbctl();
    host.ns.shell(
        "for i in $(seq 20); do for j in $(seq 0 255); do echo addr add 10.211.$i.$j/32 dev uplink; done; done | ip -batch -",
    );
    lbctl.ok(&["decap", "attach", UPLINK]);
    let inner = datagram(CLIENT, VIP);
    assert_eq!(
        result(&host, &ip(BALANCER, "10.211.20.255").around(&inner).bytes()),
        "ipv4_in_ipv4"
    );
    let forged = datagram("10.211.20.254", VIP);
    assert_eq!(result(&host, &outer(&forged).bytes()), "bad_inner_source");
    assert_eq!(status(&lbctl)["own_addresses_left_out"], json!(0));
}

/// More addresses than there is room for: one clear line, and what runs goes on.
#[test]
fn more_addresses_than_there_is_room_for() {
    let host = real(&[]);
    let lbctl = host.lbctl();
    host.ns.shell(
        "for i in $(seq 16); do for j in $(seq 0 255); do echo route add local 10.210.$i.$j dev lo; done; done | ip -batch -",
    );
    let output = lbctl.exits(1, &["decap", "attach", UPLINK]);
    assert_eq!(output.stderr.lines().count(), 1, "{output}");
    assert!(
        output.stderr.contains("inner destinations: decapsulation has room for 4095"),
        "{output}"
    );
    assert_eq!(result(&host, &outer(&datagram(CLIENT, VIP)).bytes()), "ipv4_in_ipv4");
    lbctl.ok(&["decap", "attach", UPLINK, "--to", "10.210.0.0/16"]);
    assert_eq!(result(&host, &outer(&datagram(CLIENT, "10.210.1.1")).bytes()), "ipv4_in_ipv4");
}
