use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use super::Interrupts;
use super::mask;
use super::receiving;
use crate::kernel::host::Files;
use crate::model::config::XdpMode;

const EIGHT: [u32; 8] = [0, 1, 2, 3, 4, 5, 6, 7];

/// The files of a host with eight CPUs, as far as they matter.
struct Tree {
    dir: TempDir,
    /// Name, index and mode.
    interfaces: Vec<(String, u32, XdpMode)>,
}

impl Tree {
    fn new() -> Self {
        let tree = Self { dir: tempfile::tempdir().unwrap(), interfaces: Vec::new() };
        tree.file("sys/devices/system/cpu/online", "0-7");
        tree.file("proc/irq/0/smp_affinity_list", "0-7");
        tree.file("sys/kernel/irq/0/actions", "timer");
        tree
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn file(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{text}\n")).unwrap();
    }

    fn link(&self, from: &str, to: &str) {
        let from = self.path(from);
        fs::create_dir_all(from.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(self.path(to), from).unwrap();
    }

    /// An interface that lies at a device of sysfs.
    fn interface_at(&mut self, name: &str, device: &str, rx_queues: u32, mode: XdpMode) {
        let index = u32::try_from(self.interfaces.len()).unwrap() + 2;
        let dir = format!("sys/{device}/net/{name}");
        self.file(&format!("{dir}/ifindex"), &index.to_string());
        self.file(&format!("{dir}/threaded"), "0");
        for queue in 0..rx_queues {
            self.file(&format!("{dir}/queues/rx-{queue}/rps_cpus"), "00000000,00000000");
            self.file(&format!("{dir}/queues/tx-{queue}/xps_cpus"), "ff");
        }
        self.link(&format!("sys/class/net/{name}"), &dir);
        self.interfaces.push((name.to_owned(), index, mode));
    }

    /// An interrupt, and the CPU that serves it.
    fn interrupt(&self, number: u32, action: &str, cpu: &str) {
        self.file(&format!("sys/kernel/irq/{number}/actions"), action);
        self.file(&format!("proc/irq/{number}/effective_affinity_list"), cpu);
        self.file(&format!("proc/irq/{number}/smp_affinity_list"), "0-7");
    }

    /// A PCI card with these interrupts: what their driver calls them, and which CPU serves them.
    fn card(&mut self, name: &str, slot: &str, rx_queues: u32, interrupts: &[(&str, &str)]) {
        let device = format!("devices/pci0000:00/0000:00:01.0/{slot}");
        // The interrupt of its bridge, for errors and hot plugging.
        self.file("sys/devices/pci0000:00/0000:00:01.0/msi_irqs/24", "msi");
        self.interrupt(24, "aerdrv,PCIe PME", "7");
        self.interface_at(name, &device, rx_queues, XdpMode::Native);
        self.link(&format!("sys/{device}/net/{name}/device"), &format!("sys/{device}"));
        self.file(&format!("sys/{device}/irq"), "0");
        self.msi(&device, interrupts);
    }

    fn msi(&self, device: &str, interrupts: &[(&str, &str)]) {
        let first = 100 * u32::try_from(self.interfaces.len()).unwrap();
        for (number, (action, cpu)) in (first..).zip(interrupts) {
            self.file(&format!("sys/{device}/msi_irqs/{number}"), "msix");
            self.interrupt(number, action, cpu);
        }
    }

    /// A virtual interface above others.
    fn above(&mut self, name: &str, lower: &[&str]) {
        self.interface_at(name, "devices/virtual", 1, XdpMode::Native);
        for lower in lower {
            let link = format!("sys/devices/virtual/net/{name}/lower_{lower}");
            self.link(&link, &format!("sys/class/net/{lower}"));
        }
    }

    /// The CPUs that receive the packets of these interfaces.
    fn cpus_of(&self, names: &[&str]) -> Vec<u32> {
        let all = self.interfaces.iter().map(|(name, index, mode)| (name.as_str(), *index, *mode));
        let interfaces = all.filter(|(name, ..)| names.contains(name));
        let files = Files { sys: self.path("sys"), proc: self.path("proc") };
        receiving(&files, interfaces).unwrap().into_iter().collect()
    }
}

/// How drivers name their interrupts, and which CPUs receive.
#[test]
fn cards() {
    type Card<'a> = (&'a str, u32, &'a [(&'a str, &'a str)], &'a [u32]);
    let cards: [Card<'_>; 16] = [
        (
            "ixgbe: the link's has no more than the name",
            3,
            &[("eth0-TxRx-0", "0"), ("eth0-TxRx-1", "1"), ("eth0-TxRx-2", "4"), ("eth0", "6")],
            &[0, 1, 4],
        ),
        (
            "i40e",
            2,
            &[
                ("i40e-0000:3b:00.0:misc", "7"),
                ("i40e-eth0-TxRx-0", "2"),
                ("i40e-eth0-TxRx-1", "3"),
                ("i40e-0000:3b:00.0:fdir-TxRx-0", "5"),
            ],
            &[2, 3],
        ),
        ("ice", 1, &[("ice-0000:3b:00.0:misc", "7"), ("ice-eth0-TxRx-0", "1")], &[1]),
        (
            "mlx5",
            2,
            &[
                ("mlx5_async0@pci:0000:03:00.0", "7"),
                ("mlx5_comp0@pci:0000:03:00.0", "0"),
                ("mlx5_comp1@pci:0000:03:00.0", "2"),
            ],
            &[0, 2],
        ),
        (
            "mlx5 before Linux 4.19",
            1,
            &[
                ("mlx5_pages_eq@pci:0000:03:00.0", "7"),
                ("mlx5_cmd_eq@pci:0000:03:00.0", "7"),
                ("mlx5_async_eq@pci:0000:03:00.0", "7"),
                ("mlx5_comp0@pci:0000:03:00.0", "1"),
            ],
            &[1],
        ),
        (
            "ena",
            2,
            &[("ena-mgmnt@pci:0000:00:05.0", "7"), ("eth0-Tx-Rx-0", "0"), ("eth0-Tx-Rx-1", "1")],
            &[0, 1],
        ),
        (
            "gve",
            2,
            &[
                ("gve-ntfy-blk0@pci:0000:00:04.0", "1"),
                ("gve-ntfy-blk1@pci:0000:00:04.0", "2"),
                ("gve-mgmnt@pci:0000:00:04.0", "7"),
            ],
            &[1, 2],
        ),
        ("mana", 1, &[("mana_hwc@pci:7870:00:00.0", "7"), ("mana_q0@pci:7870:00:00.0", "3")], &[3]),
        ("vmxnet3", 1, &[("eth0-rxtx-0", "2"), ("eth0-event-1", "7")], &[2]),
        ("igb: queues apart", 1, &[("eth0", "7"), ("eth0-rx-0", "1"), ("eth0-tx-0", "6")], &[1]),
        ("bnxt", 2, &[("eth0-TxRx-0", "1"), ("eth0-TxRx-1", "2")], &[1, 2]),
        ("sfc, mlx4: numbers only", 2, &[("eth0-0", "1"), ("eth0-1", "2")], &[1, 2]),
        ("e1000: one for all", 1, &[("eth0", "5")], &[5]),
        ("none that is known: all count", 1, &[("foo-misc", "1"), ("foo-link", "2")], &[1, 2]),
        (
            "more interrupts than queues in use",
            2,
            &[("eth0-rx-10", "7"), ("eth0-rx-1", "1"), ("eth0-rx-0", "0"), ("eth0-rx-2", "2")],
            &[0, 1],
        ),
        (
            "numbers from one",
            2,
            &[("eth0-0", "0"), ("eth0-txrx-1", "1"), ("eth0-txrx-2", "2")],
            &[0, 1, 2],
        ),
    ];
    for (what, queues, interrupts, cpus) in cards {
        let mut tree = Tree::new();
        tree.card("eth0", "0000:03:00.0", queues, interrupts);
        assert_eq!(tree.cpus_of(&["eth0"]), cpus, "{what}");
    }
}

#[test]
fn an_interfaces_own_name_tells_nothing() {
    let mut tree = Tree::new();
    let interrupts =
        [("mgmt-link-tx-TxRx-0", "1"), ("mgmt-link-tx-TxRx-1", "2"), ("mgmt-link-tx", "7")];
    tree.card("mgmt-link-tx", "0000:03:00.0", 2, &interrupts);
    assert_eq!(tree.cpus_of(&["mgmt-link-tx"]), [1, 2]);
}

/// A virtio device has the interrupts of its parent. Not all of its queues are in use.
#[test]
fn virtio() {
    let mut tree = Tree::new();
    let pci = "devices/pci0000:00/0000:00:03.0";
    tree.interface_at("eth0", &format!("{pci}/virtio2"), 2, XdpMode::Native);
    tree.link(&format!("sys/{pci}/virtio2/net/eth0/device"), &format!("sys/{pci}/virtio2"));
    tree.file(&format!("sys/{pci}/irq"), "11");
    tree.msi(
        pci,
        &[
            ("virtio2-config", "7"),
            ("virtio2-input.0", "1"),
            ("virtio2-output.0", "6"),
            ("virtio2-input.1", "3"),
            ("virtio2-output.1", "5"),
            ("virtio2-input.2", "4"),
            ("virtio2-output.2", "4"),
            ("virtio2-control", "7"),
        ],
    );
    assert_eq!(tree.cpus_of(&["eth0"]), [1, 3]);
}

/// A device without a list of its interrupts: their names are its name, or the interface's.
#[test]
fn platform_devices() {
    for (action, cpus) in [("eth0", vec![2]), ("virtio1", vec![2]), ("eth00", EIGHT.to_vec())] {
        let mut tree = Tree::new();
        let device = "devices/platform/soc/virtio1";
        tree.interface_at("eth0", device, 1, XdpMode::Native);
        tree.link(&format!("sys/{device}/net/eth0/device"), &format!("sys/{device}"));
        tree.interrupt(40, action, "2");
        assert_eq!(tree.cpus_of(&["eth0"]), cpus, "{action}");
    }
}

/// All queues share one interrupt with another device.
#[test]
fn a_shared_interrupt() {
    let mut tree = Tree::new();
    tree.card("eth0", "0000:03:00.0", 1, &[]);
    tree.file("sys/devices/pci0000:00/0000:00:01.0/0000:03:00.0/irq", "11");
    tree.interrupt(11, "ehci_hcd:usb1,eth0", "3");
    assert_eq!(tree.cpus_of(&["eth0"]), [3]);
}

#[test]
fn in_doubt_every_cpu_counts() {
    // While a card is down, its driver uses none of its interrupts. The bridge's interrupt is not the card's.
    let mut tree = Tree::new();
    tree.card("eth0", "0000:03:00.0", 2, &[("", ""), ("", "")]);
    tree.card("eth1", "0000:04:00.0", 2, &[]);
    tree.above("veth0", &[]);
    tree.card("eth2", "0000:05:00.0", 1, &[("eth2-TxRx-0", "3")]);
    for names in [&["eth0"][..], &["eth1"], &["veth0"], &["eth2", "veth0"], &[]] {
        assert_eq!(tree.cpus_of(names), EIGHT, "{names:?}");
    }
    assert_eq!(tree.cpus_of(&["eth2"]), [3]);

    // Threads poll the queues.
    tree.file("sys/class/net/eth2/threaded", "1");
    assert_eq!(tree.cpus_of(&["eth2"]), EIGHT, "threaded");
    tree.file("sys/class/net/eth2/threaded", "0");

    // The sysfs is that of another network namespace.
    tree.file("sys/class/net/eth2/ifindex", "99");
    assert_eq!(tree.cpus_of(&["eth2"]), EIGHT, "another interface of this name");
}

#[test]
fn interfaces_together_and_above_others() {
    let mut tree = Tree::new();
    tree.card("eth0", "0000:03:00.0", 1, &[("eth0-TxRx-0", "1")]);
    tree.card("eth1", "0000:04:00.0", 1, &[("eth1-TxRx-0", "2")]);
    tree.above("bond0", &["eth0", "eth1"]);
    tree.above("bond0.7", &["bond0"]);
    tree.above("veth0", &[]);
    tree.above("mixed", &["eth0", "veth0"]);
    assert_eq!(tree.cpus_of(&["eth0", "eth1"]), [1, 2]);
    assert_eq!(tree.cpus_of(&["bond0"]), [1, 2]);
    assert_eq!(tree.cpus_of(&["bond0.7"]), [1, 2]);
    assert_eq!(tree.cpus_of(&["mixed"]), EIGHT);
}

#[test]
fn where_an_interrupt_is_served() {
    let mut tree = Tree::new();
    tree.card("eth0", "0000:03:00.0", 1, &[("eth0-TxRx-0", "")]);
    tree.file("proc/irq/100/smp_affinity_list", "4-5");
    assert_eq!(tree.cpus_of(&["eth0"]), [4, 5], "where none was chosen, all that are allowed");
    tree.file("proc/irq/100/smp_affinity_list", "4-5,9");
    assert_eq!(tree.cpus_of(&["eth0"]), [4, 5], "CPU 9 is not online");
    fs::remove_dir_all(tree.path("proc/irq/100")).unwrap();
    assert_eq!(tree.cpus_of(&["eth0"]), EIGHT, "nobody knows");
}

/// Receive packet steering comes before XDP in generic mode, and behind it in native mode.
#[test]
fn steering() {
    for (mode, cpus) in [
        (XdpMode::Native, vec![1]),
        (XdpMode::Generic, vec![1, 4, 5]),
        (XdpMode::Auto, vec![1, 4, 5]),
    ] {
        let mut tree = Tree::new();
        tree.card("eth0", "0000:03:00.0", 1, &[("eth0-TxRx-0", "1")]);
        tree.file("sys/class/net/eth0/queues/rx-0/rps_cpus", "00000000,00000030");
        tree.interfaces[0].2 = mode;
        assert_eq!(tree.cpus_of(&["eth0"]), cpus, "{mode}");
    }
}

#[test]
fn masks() {
    for (text, cpus) in [
        ("0", vec![]),
        ("00000000,00000000", vec![]),
        ("f", vec![0, 1, 2, 3]),
        ("80000001", vec![0, 31]),
        ("00000001,00000000,00000004", vec![2, 64]),
    ] {
        assert_eq!(mask(text).into_iter().collect::<Vec<_>>(), cpus, "{text}");
    }
}

#[test]
fn no_list_of_cpus_is_an_error() {
    let tree = Tree::new();
    let files = Files { sys: tree.path("sys"), proc: tree.path("proc") };
    tree.file("sys/devices/system/cpu/online", "0-x");
    let error = receiving(&files, []).unwrap_err().to_string();
    assert!(error.contains("cpu/online") && error.contains("no list"), "{error}");
}

#[test]
fn nodes_of_cpus() {
    let tree = Tree::new();
    let files = Files { sys: tree.path("sys"), proc: tree.path("proc") };
    assert!(files.nodes().is_empty(), "a kernel without NUMA");
    tree.file("sys/devices/system/node/node0/cpulist", "0-1,4");
    tree.file("sys/devices/system/node/node2/cpulist", "2-3");
    tree.file("sys/devices/system/node/node3/cpulist", "");
    tree.file("sys/devices/system/node/online", "0,2-3");
    let nodes: Vec<_> = files.nodes().into_iter().collect();
    assert_eq!(nodes, [(0, 0), (1, 0), (2, 2), (3, 2), (4, 0)]);
}

/// What a caller needs to spread the interrupts over CPUs.
#[test]
fn interrupts_of_receive_queues() {
    let mut tree = Tree::new();
    let names = [("eth0-TxRx-0", "3"), ("eth0-TxRx-1", "3"), ("eth0", "6")];
    tree.card("eth0", "0000:3b:00.0", 2, &names);
    tree.above("br0", &["eth0"]);
    let files = Files { sys: tree.path("sys"), proc: tree.path("proc") };
    let Interrupts { numbers, cpus } = files.receive_interrupts("eth0", false).unwrap();
    assert_eq!(cpus.into_iter().collect::<Vec<_>>(), [3]);
    assert_eq!(numbers, [100, 101]);
    assert_eq!(files.receive_interrupts("br0", false), None);
    tree.file("sys/class/net/eth0/queues/rx-0/rps_cpus", "00000000,000000f0");
    let steered = files.receive_interrupts("eth0", true).unwrap().cpus;
    assert_eq!(steered.into_iter().collect::<Vec<_>>(), [3, 4, 5, 6, 7]);
}
