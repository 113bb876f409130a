//! The available memory: of the host, of the control groups of this process, and of NUMA nodes.

use std::collections::BTreeMap;

use crate::kernel::host::Files;
use crate::kernel::host::text;
use crate::model::host::Available;
use crate::model::host::NodeMemory;

/// The names in each version of control groups: the controller in `/proc/self/cgroup`, the folder below
/// `/sys/fs/cgroup`, the files of limit and usage, and the keys of caches.
const VERSIONS: [(&str, &str, &str, &str, [&str; 3]); 2] = [
    ("", "", "memory.max", "memory.current", ["active_file", "inactive_file", "slab_reclaimable"]),
    (
        "memory",
        "memory",
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        ["total_active_file", "total_inactive_file", "total_slab_reclaimable"],
    ),
];

/// Reads the available memory.
pub(crate) fn available(files: &Files) -> Available {
    Available {
        host: text(&files.proc.join("meminfo"))
            .and_then(|meminfo| kilobytes(&meminfo, "MemAvailable:")),
        groups: groups(files),
        nodes: nodes(files),
    }
}

/// The bytes of a line such as `MemFree: 12 kB`. Lines of a node begin with `Node 0`.
fn kilobytes(meminfo: &str, key: &str) -> Option<u64> {
    meminfo.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip_while(|word| *word != key).skip(1);
        words.next()?.parse::<u64>().ok()?.checked_mul(1024)
    })
}

fn nodes(files: &Files) -> BTreeMap<u32, NodeMemory> {
    let read = |(node, dir): (u32, std::path::PathBuf)| {
        let meminfo = text(&dir.join("meminfo"))?;
        let value = |key| kilobytes(&meminfo, key);
        // A node without memory: the kernel uses the nearest node's memory for its CPUs.
        value("MemTotal:").filter(|total| *total != 0)?;
        let free = value("MemFree:")?;
        let caches = ["Active(file):", "Inactive(file):", "SReclaimable:"];
        let available = free + caches.into_iter().filter_map(value).sum::<u64>();
        Some((node, NodeMemory { free, available }))
    };
    files.node_dirs().into_iter().filter_map(read).collect()
}

/// What the control groups of this process, and those above them, leave.
fn groups(files: &Files) -> BTreeMap<String, u64> {
    let mut left = BTreeMap::new();
    let memberships = text(&files.proc.join("self/cgroup")).unwrap_or_default();
    for line in memberships.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        for (controller, place, limit, usage, caches) in VERSIONS {
            if !controllers.split(',').any(|name| name == controller) {
                continue;
            }
            let root = files.control_groups().join(place);
            for group in std::path::Path::new(path).ancestors() {
                let dir = root.join(group.strip_prefix("/").unwrap_or(group));
                let number = |file: &str| text(&dir.join(file))?.parse::<u64>().ok();
                // "max" is not a number, and no limit.
                let (Some(limit), Some(usage)) = (number(limit), number(usage)) else { continue };
                let stat = text(&dir.join("memory.stat")).unwrap_or_default();
                let cache = |name: &&str| {
                    let value = |line: &str| line.strip_prefix(name)?.trim().parse::<u64>().ok();
                    stat.lines().find_map(value)
                };
                let reclaimable: u64 = caches.iter().filter_map(cache).sum();
                let available = limit.saturating_sub(usage.saturating_sub(reclaimable));
                left.insert(group.display().to_string(), available);
            }
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_a_host_has() {
        let dir = tempfile::tempdir().unwrap();
        let file = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let files = Files { sys: dir.path().join("sys"), proc: dir.path().join("proc") };
        assert_eq!(available(&files), Available::default());

        file("proc/meminfo", "MemTotal:  100 kB\nMemFree:  10 kB\nMemAvailable:  20 kB\n");
        for (node, free) in [(0, 1000), (1, 500)] {
            file(
                &format!("sys/devices/system/node/node{node}/meminfo"),
                &format!(
                    "Node {node} MemTotal:  9999 kB\nNode {node} MemFree:  {free} kB\n\
                     Node {node} Active(file):  10 kB\nNode {node} Inactive(file):  20 kB\n\
                     Node {node} SReclaimable:  5 kB\n"
                ),
            );
        }
        file(
            "sys/devices/system/node/node2/meminfo",
            "Node 2 MemTotal:  0 kB\nNode 2 MemFree:  0 kB\n",
        );
        let node = |free: u64| NodeMemory { free: free * 1024, available: (free + 35) * 1024 };
        let read = available(&files);
        assert_eq!(read.host, Some(20 * 1024));
        assert_eq!(read.nodes, [(0, node(1000)), (1, node(500))].into(), "node 2 has no memory");

        // Version 2: a group without a limit in one that has one.
        file("proc/self/cgroup", "0::/system.slice/l4lb.service\n");
        file("sys/fs/cgroup/system.slice/l4lb.service/memory.max", "max\n");
        file("sys/fs/cgroup/system.slice/l4lb.service/memory.current", "5\n");
        file("sys/fs/cgroup/system.slice/memory.max", "1000\n");
        file("sys/fs/cgroup/system.slice/memory.current", "600\n");
        file(
            "sys/fs/cgroup/system.slice/memory.stat",
            "anon 1\nactive_file 30\ninactive_file 20\nslab_reclaimable 5\n",
        );
        let groups = |path: &str, left: u64| BTreeMap::from([(path.to_owned(), left)]);
        assert_eq!(available(&files).groups, groups("/system.slice", 455));

        // Version 1: the limit is that of the container, whose path outside of it means nothing inside.
        file("proc/self/cgroup", "9:cpu,cpuacct:/\n4:memory:/docker/0815\n1:name=systemd:/\n");
        file("sys/fs/cgroup/memory/memory.limit_in_bytes", "1000\n");
        file("sys/fs/cgroup/memory/memory.usage_in_bytes", "900\n");
        file("sys/fs/cgroup/memory/memory.stat", "total_inactive_file 100\ninactive_file 1\n");
        assert_eq!(available(&files).groups, groups("/", 200));

        // 'ip netns exec' mounts a sysfs without control groups.
        let (sys, aside) = (dir.path().join("sys"), dir.path().join("proc/1/root/sys"));
        fs::create_dir_all(aside.parent().expect("a folder")).expect("make folders");
        fs::rename(sys, aside).expect("move it");
        assert_eq!(available(&files).groups, groups("/", 200));
    }
}
