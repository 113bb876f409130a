//! `down`, and `apply --repair` that sets up anew, take down only what is the balancer's, and only if what follows can
//! succeed.

use std::fs;
use std::path::PathBuf;

use super::VIP;
use super::answers;
use super::folder;
use super::nothing_left;
use super::pins;
use super::remove;
use crate::fixtures::Lbctl;
use crate::fixtures::NetNs;
use crate::fixtures::Rig;
use crate::fixtures::UPLINK;
use crate::fixtures::config;
use crate::fixtures::config_file;
use crate::fixtures::path_of;
use crate::fixtures::put_into_link;
use crate::fixtures::vip;

/// `apply` takes nothing down before it knows that it can set up again.
#[test]
fn what_cannot_be_set_up_stays() {
    let rig = Rig::new(1);
    let (lbctl, folder) = (rig.lbctl(), folder(&rig));
    let text = config(&vip(VIP, &["10.0.0.1"]));
    let file = config_file(&text);
    let path = path_of(&file);
    let apply = ["apply", "-f", path];
    lbctl.ok(&apply);
    let all = pins(&folder);
    // Otherwise the link holds the balancer itself.
    put_into_link(&folder.join("link").join(UPLINK), &folder.join("prog/root"));
    remove(&rig, "map/chain");
    remove(&rig, "prog/balancer");
    let refused = lbctl.exits(1, &apply);
    assert!(refused.stderr.contains("the kernel has freed prog/balancer: "), "{refused}");
    let left = pins(&folder);
    assert_eq!(left.len() + 1, all.len(), "{left:?}");

    let missing = config_file(&text.replace(UPLINK, "missing"));
    let own = config_file(&text.replace("10.200.1.1", "172.31.0.2"));
    for (file, commands) in [
        (&missing, &[&["apply", "--repair"][..]][..]),
        (&own, &[&["apply", "--repair"], &["serve"]]),
    ] {
        let path = path_of(&file);
        for command in commands {
            let output = lbctl.exits(1, &[command, &["-f", path][..]].concat());
            assert_eq!(pins(&folder), left, "{command:?}: {output}");
        }
    }
    // Nor from another network namespace, of which the instance is not.
    let other = NetNs::new();
    other.shell(&format!("ip link add {UPLINK} type veth peer name peer; ip link set {UPLINK} up"));
    let elsewhere = Lbctl::new(&rig.bpffs).in_ns(&other);
    for command in [&["apply", "--repair", "-f", path][..], &["serve", "-f", path]] {
        let refused = elsewhere.exits(1, command);
        assert!(refused.stderr.contains("of another network namespace"), "{command:?}: {refused}");
        assert_eq!(pins(&folder), left, "{command:?}");
    }
    lbctl.ok(&["apply", "--repair", "-f", path]);
    assert_eq!(pins(&folder), all);
    answers(&rig, "set up anew");
}

/// A mount point, which cannot be removed.
struct Mounted(PathBuf);

impl Mounted {
    fn at(path: PathBuf) -> Self {
        fs::create_dir(&path).expect("make a folder");
        nix::mount::mount(
            Some("none"),
            &path,
            Some("tmpfs"),
            nix::mount::MsFlags::empty(),
            None::<&str>,
        )
        .expect("mount");
        Self(path)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = nix::mount::umount(&self.0);
    }
}

/// If the pins cannot be put right, `down` ends nothing of what others run.
#[test]
fn others_stay_where_pins_cannot_be_put_right() {
    let rig = Rig::new(1);
    let (lbctl, folder) = (rig.lbctl(), folder(&rig));
    let file = config_file(&config(&vip(VIP, &["10.0.0.1"])));
    lbctl.ok(&["apply", "-f", path_of(&file)]);
    lbctl.ok(&["decap", "attach", UPLINK, "--address", "172.31.0.2"]);
    remove(&rig, "map/vips");
    // Neither does it matter in which order they are tried.
    remove(&rig, "prog/decap");
    let mounted = Mounted::at(folder.join("map/vips"));
    let down = lbctl.exits(1, &["down"]);
    assert!(down.stderr.contains("map/vips"), "{down}");
    let has_xdp =
        || rig.topology.balancer.ns.shell(&format!("ip link show {UPLINK}")).contains("xdp");
    assert!(has_xdp(), "decapsulation goes on: {down}");
    drop(mounted);
    lbctl.ok(&["down"]);
    lbctl.ok(&["decap", "status"]);
    assert!(has_xdp(), "decapsulation stays");
    lbctl.ok(&["decap", "detach"]);
    nothing_left(&rig, "in the end");
}
