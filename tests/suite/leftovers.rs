//! Nothing outlives a test, not even one that panics: the fixtures are tested here, and with them that pins
//! are all that keeps programs, maps and links.

use std::ffi::CString;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::fd::FromRawFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::panic;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use libbpf_sys::bpf_link_get_fd_by_id;
use libbpf_sys::bpf_map_get_fd_by_id;
use libbpf_sys::bpf_obj_get;
use libbpf_sys::bpf_prog_get_fd_by_id;

use crate::common::Rig;
use crate::common::UdpEcho;
use crate::common::config;
use crate::common::server;
use crate::common::vip;
use crate::common::wait_until;

#[test]
fn nothing_outlives_a_test_that_panics() {
    const VIP: &str = "tcp://10.200.1.4:80";
    let mut pins = PathBuf::new();
    let mut seen = Vec::new();
    let panicked = panic::catch_unwind(panic::AssertUnwindSafe(|| {
        let rig = Rig::new(1);
        rig.lbctl().apply(&config(&vip(VIP, &["10.0.0.1"])));
        let _download = rig.download(VIP);
        let _echo =
            UdpEcho::start(&rig.topology.reals[0].ns, "real1", &[server("udp://10.200.1.4:53")]);
        rig.bpffs.path().clone_into(&mut pins);
        // Beside it, the kernel keeps files of its own.
        pinned_objects(&pins.join("l4lb"), &mut seen);
        let nodes = [&rig.topology.client, &rig.topology.balancer, &rig.topology.reals[0]];
        seen.extend(nodes.map(|node| Object::Namespace(namespace(&node.ns.path()))));
        seen.push(Object::Namespace(namespace(&rig.topology.router.path())));
        // Quietly: no panic hook, no backtrace.
        panic::resume_unwind(Box::new("the test fails"));
    }));
    assert!(panicked.is_err());
    // Root, decap and balancer; their maps; two links; four namespaces.
    assert!(seen.len() > 25, "only {seen:?}");
    assert!(!pins.exists(), "{} is gone", pins.display());
    let gone = wait_until(Duration::from_secs(10), || {
        seen.retain(Object::exists);
        seen.is_empty()
    });
    assert!(gone, "still in the kernel: {seen:?}");
}

/// What the kernel keeps for as long as somebody holds it.
#[derive(Debug)]
enum Object {
    Program(u32),
    Map(u32),
    Link(u32),
    /// As `/proc` writes it: `net:[4026531840]`.
    Namespace(PathBuf),
}

impl Object {
    /// From a line of what `/proc` says of a descriptor.
    fn from_fdinfo(line: &str) -> Option<Self> {
        let (kind, id) = line.split_once(':')?;
        let id = id.trim().parse().ok()?;
        match kind {
            "prog_id" => Some(Self::Program(id)),
            "map_id" => Some(Self::Map(id)),
            "link_id" => Some(Self::Link(id)),
            _ => None,
        }
    }

    fn exists(&self) -> bool {
        let (id, open): (u32, unsafe extern "C" fn(u32) -> i32) = match self {
            Self::Program(id) => (*id, bpf_prog_get_fd_by_id),
            Self::Map(id) => (*id, bpf_map_get_fd_by_id),
            Self::Link(id) => (*id, bpf_link_get_fd_by_id),
            Self::Namespace(namespace) => return is_held(namespace),
        };
        #[expect(unsafe_code, reason = "a descriptor of libbpf's")]
        // SAFETY: these functions take no pointers.
        let fd = unsafe { open(id) };
        own(fd).is_some()
    }
}

/// Everything that is pinned below a folder.
fn pinned_objects(folder: &Path, objects: &mut Vec<Object>) {
    for entry in fs::read_dir(folder).expect("read a folder of pins") {
        let path = entry.expect("read a folder of pins").path();
        if path.is_dir() {
            pinned_objects(&path, objects);
            continue;
        }
        let name = CString::new(path.as_os_str().as_bytes()).expect("no NUL");
        #[expect(unsafe_code, reason = "a descriptor of libbpf's")]
        // SAFETY: the path ends with NUL.
        let fd = own(unsafe { bpf_obj_get(name.as_ptr()) }).expect("open a pin");
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()));
        let info = info.expect("read about a descriptor");
        let object = info.lines().find_map(Object::from_fdinfo);
        objects.push(object.unwrap_or_else(|| panic!("{}: no id in {info}", path.display())));
    }
}

/// Takes the descriptor that libbpf returned.
fn own(fd: i32) -> Option<OwnedFd> {
    #[expect(unsafe_code, reason = "libbpf returns bare descriptors")]
    // SAFETY: libbpf has just opened it for this caller alone.
    (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A network namespace, by the name that `/proc` has for it.
fn namespace(path: &Path) -> PathBuf {
    fs::read_link(path).expect("a descriptor of a namespace")
}

/// Whether a process is in the namespace, or this one holds a descriptor of it.
fn is_held(namespace: &Path) -> bool {
    let leads_there = |path: PathBuf| fs::read_link(path).is_ok_and(|target| target == namespace);
    let entries =
        |path: &str| fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    entries("/proc/self/fd").any(leads_there)
        || entries("/proc").any(|process| leads_there(process.join("ns/net")))
}
