//! Programs of others: compiled, loaded, attached and asked.

use std::fs;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;

use libbpf_rs::MapCore;
use libbpf_rs::MapFlags;
use libbpf_rs::MapHandle;
use libbpf_rs::Object;
use libbpf_rs::ObjectBuilder;
use libbpf_rs::Xdp;
use libbpf_rs::XdpFlags;
use libbpf_rs::libbpf_sys;
use nix::net::if_::if_nametoindex;
use tempfile::TempDir;

use crate::fixtures::NetNs;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// libbpf's headers, in a folder of their own.
fn headers() -> &'static Path {
    static HEADERS: LazyLock<TempDir> = LazyLock::new(|| {
        let folder = TempDir::with_prefix("l4lb-headers-").expect("make a folder");
        let bpf = folder.path().join("bpf");
        fs::create_dir(&bpf).expect("make a folder");
        for (name, text) in libbpf_sys::API_HEADERS {
            fs::write(bpf.join(name), text).expect("write a header");
        }
        folder
    });
    HEADERS.path()
}

/// An object, compiled as somebody else would.
#[derive(Debug)]
pub(crate) struct Built {
    folder: TempDir,
    name: String,
}

impl Built {
    /// `tracer.bpf.c`, with these macros, as a file of this name.
    pub(crate) fn tracer(name: &str, macros: &[&str]) -> Self {
        let built = Self { folder: TempDir::new().expect("make a folder"), name: name.to_owned() };
        let output = Command::new(env!("LB_CLANG"))
            .args(["-g", "-O2", "-target", "bpf"])
            .args(env!("LB_CLANG_ARGS").split(' '))
            .args(macros)
            .args([format!("-I{ROOT}/include"), format!("-I{}", headers().display())])
            .args(["-c", &format!("{ROOT}/tests/suite/control/chain/tracer.bpf.c"), "-o"])
            .arg(built.path())
            .output()
            .expect("run the compiler");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        built
    }

    /// The example, by its own Makefile, in a folder outside of the project.
    pub(crate) fn example() -> Self {
        let folder = TempDir::new().expect("make a folder");
        for file in ["Makefile", "drop_list.bpf.c"] {
            fs::copy(format!("{ROOT}/examples/chain/{file}"), folder.path().join(file))
                .expect("copy the example");
        }
        let output = Command::new("make")
            .arg("-C")
            .arg(folder.path())
            .arg(format!("CLANG={}", env!("LB_CLANG")))
            .arg(format!("HEADERS={ROOT}/include"))
            .output()
            .expect("run make");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self { folder, name: "drop_list".to_owned() }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join(format!("{}.bpf.o", self.name))
    }

    pub(crate) fn text(&self) -> String {
        self.path().to_str().expect("a printable path").to_owned()
    }

    /// Loads it as a loader does that knows the contract: its place set, the chain's maps shared.
    pub(crate) fn load(&self, place: u32, chain: Option<&Path>) -> Object {
        let mut open = ObjectBuilder::default().open_file(self.path()).expect("open the object");
        for mut map in open.maps_mut() {
            let name = map.name().to_string_lossy().into_owned();
            if name.ends_with(".rodata") {
                map.set_initial_value(&place.to_ne_bytes()).expect("set l4lb_slot");
            } else if name.starts_with("chain")
                && let Some(folder) = chain
            {
                map.reuse_pinned_map(folder.join("map").join(&name)).expect("share a map");
            }
        }
        open.load().expect("load the object")
    }
}

/// What the tracer of this name has seen.
pub(crate) fn seen(instance: &Path, name: &str) -> u64 {
    let map = MapHandle::from_pinned_path(instance.join("map").join(name).join("seen"));
    count(&map.expect("open a pinned map"))
}

/// The first value of an array.
pub(crate) fn count(map: &impl MapCore) -> u64 {
    let value = map.lookup(&0_u32.to_ne_bytes(), MapFlags::ANY).expect("read a map");
    u64::from_ne_bytes(value.expect("an array has values").try_into().expect("eight bytes"))
}

/// Tells the tracer what to do; 0: hand on.
pub(crate) fn set_verdict(instance: &Path, name: &str, verdict: u32) {
    let map = MapHandle::from_pinned_path(instance.join("map").join(name).join("verdict"));
    let map = map.expect("open a pinned map");
    map.update(&0_u32.to_ne_bytes(), &verdict.to_ne_bytes(), MapFlags::ANY).expect("write a map");
}

/// A program that somebody else has on an interface, without a link.
#[derive(Debug)]
pub(crate) struct Attached {
    pub(crate) object: Object,
}

impl Attached {
    pub(crate) fn new(ns: &NetNs, interface: &str, object: Object) -> Self {
        ns.run(|| {
            let index = if_nametoindex(interface).expect("the interface").cast_signed();
            let program = object.progs().next().expect("a program");
            Xdp::new(program.as_fd()).attach(index, XdpFlags::NONE).expect("attach a program");
        });
        Self { object }
    }
}

/// The same by a link. Dropping it detaches the program.
pub(crate) struct Linked(libbpf_rs::Link);

impl Linked {
    pub(crate) fn new(ns: &NetNs, interface: &str, object: &Object) -> Self {
        ns.run(|| {
            let index = if_nametoindex(interface).expect("the interface").cast_signed();
            let program = object.progs_mut().next().expect("a program");
            Self(program.attach_xdp(index).expect("attach a program"))
        })
    }
}

impl Drop for Linked {
    fn drop(&mut self) {
        // Closing it would not do: a child that another test forks just now has the descriptor, too, until it
        // becomes another program.
        let _ = self.0.detach();
    }
}

/// The kernel's id of the program that an interface runs, and that of its link.
pub(crate) fn on_interface(ns: &NetNs, interface: &str) -> (Option<u32>, Option<u32>) {
    let text = ns.shell(&format!("ip -j -d link show {interface}"));
    let link: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let id = link[0]["xdp"]["prog"]["id"].as_u64().and_then(|id| u32::try_from(id).ok());
    let index = ns.run(|| if_nametoindex(interface).expect("the interface"));
    let links = libbpf_rs::query::LinkInfoIter::default();
    let mut links = links.filter(|link| {
        let on =
            matches!(&link.info, libbpf_rs::query::LinkTypeInfo::Xdp(xdp) if xdp.ifindex == index);
        on && Some(link.prog_id) == id
    });
    (id, links.next().map(|link| link.id))
}

/// The tracer's own data, by the kernel's id of the program.
pub(crate) fn own_data(program: u32) -> u64 {
    let options = libbpf_rs::query::ProgInfoQueryOptions::default().include_map_ids(true);
    let mut programs = libbpf_rs::query::ProgInfoIter::with_query_opts(options);
    let program = programs.find(|info| info.id == program).expect("the program");
    let maps = program.map_ids.into_iter().map(MapHandle::from_map_id);
    let mut data = maps.filter_map(Result::ok);
    count(&data.find(|map| map.name().to_string_lossy().ends_with(".bss")).expect("its data"))
}

/// Runs a program over so many datagrams to port 7777.
#[expect(
    unsafe_code,
    reason = "libbpf's safe wrapper runs only programs of objects that it has loaded"
)]
pub(crate) fn run_many(program: &impl AsFd, packets: u32) {
    let mut frame = Vec::new();
    etherparse::PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4([192, 0, 2, 1], [192, 0, 2, 2], 64)
        .udp(1000, 7777)
        .write(&mut frame, b"?")
        .expect("write to memory");
    let mut options = libbpf_sys::bpf_test_run_opts {
        sz: size_of::<libbpf_sys::bpf_test_run_opts>() as _,
        data_in: frame.as_ptr().cast(),
        data_size_in: u32::try_from(frame.len()).expect("a short frame"),
        repeat: packets.cast_signed(),
        ..Default::default()
    };
    // SAFETY: the frame lives until the call returns, and has the size that is given.
    let done = unsafe {
        libbpf_sys::bpf_prog_test_run_opts(program.as_fd().as_raw_fd(), &raw mut options)
    };
    assert_eq!(done, 0, "run a program");
}
