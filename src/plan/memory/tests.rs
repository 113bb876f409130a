use std::collections::BTreeMap;

use libbpf_rs::MapType;

use super::MemoryPlan;
use crate::model::config::TableKind;
use crate::model::connection_tables::SHARED_TABLE_ENTRIES;
use crate::model::connection_tables::Tables;
use crate::model::host::Available;
use crate::model::host::Host;
use crate::model::host::MapShape;
use crate::model::host::NodeMemory;
use crate::model::vip_table::RealSpec;
use crate::model::vip_table::Table;
use crate::model::vip_table::VipSpec;
use crate::plan::Plan;
use crate::plan::diff::Running;
use crate::plan::diff::RunningVip;
use crate::plan::diff::TableDiff;
use crate::plan::map_cost::own_table;
use crate::plan::map_cost::ring;
use crate::plan::map_cost::vip_index;
use crate::plan::plan_memory;
use crate::plan::rings::RingImage;
use crate::plan::steps::Snapshot;
use crate::plan::steps::Steps;
use crate::plan::writes::Write;

/// Four CPUs on two nodes.
fn nodes() -> BTreeMap<u32, u32> {
    [(0, 0), (1, 0), (2, 1), (3, 1)].into()
}

/// An instance that runs with these tables: CPU → flows.
fn runs(tables: &[u32], table: Running) -> Snapshot {
    let control = Some(crate::model::abi::control::default());
    let tables = lru(tables);
    Snapshot { control, tables, shared_table: true, table, ..Snapshot::default() }
}

fn steps(tables: Option<&[u32]>, writes: Vec<Write>) -> Steps {
    let table = TableDiff { writes, ..TableDiff::default() };
    Steps { tables: tables.map(lru), table, ..Steps::default() }
}

/// Tables of kind LRU with this many elements, by CPU.
fn lru(entries: &[u32]) -> Tables {
    let own = (0..).zip(entries.iter().copied()).collect();
    Tables { kind: TableKind::Lru, bank: 0, own }
}

fn connection_table(entries: u32) -> u64 {
    own_table(TableKind::Lru, entries)
}

fn plan(running: &Snapshot, steps: &Steps) -> Option<MemoryPlan> {
    let host = Host { nodes: nodes(), possible_cpus: 4, ..Host::default() };
    MemoryPlan::new(running, steps, &Table::default(), &host)
}

fn image() -> RingImage {
    RingImage { members: Vec::new(), ids: Vec::new(), barred: [1].into() }
}

/// A running table of VIPs with rings.
fn table(ids: std::ops::Range<u32>) -> Running {
    let vip = |id: u32| {
        let address = std::net::Ipv4Addr::from(0x0ac8_0000 + id);
        let reals = [([10, 0, 0, 1].into(), RealSpec::new(1, crate::model::config::RealState::Up))];
        let spec = VipSpec { reals: reals.into(), ..VipSpec::default() };
        let vip = format!("tcp://{address}:80").parse().unwrap();
        (
            vip,
            RunningVip {
                id,
                counters: 0,
                serial: id + 1,
                flags: 0,
                spec,
                barred: [].into(),
                changing: false,
            },
        )
    };
    Running { vips: ids.map(vip).collect(), ..Running::default() }
}

/// What Linux 6.18 shows as `memlock` of maps with these sizes, without its 256 to 700 bytes a map.
#[test]
fn costs_of_maps() {
    let shape = |kind, flags, key_size, value_size, max_entries| MapShape {
        kind,
        flags,
        key_size,
        value_size,
        max_entries,
    };
    let no_prealloc = libbpf_sys::BPF_F_NO_PREALLOC;
    assert_eq!(connection_table(500_000), 500_000 * 88 + 524_288 * 16);
    assert_eq!(own_table(TableKind::SetAssociative, 1000), 2 * 4096 + 16 * 4096 + 32 * 4096);
    assert_eq!(ring(), 4096 + 33 * 4096);
    for (map, bytes) in [
        (shape(MapType::Array, 0, 4, 32, 1000), 32_000),
        (shape(MapType::Array, 0, 4, 12, 1000), 16_000),
        (shape(MapType::ArrayOfMaps, 0, 4, 4, 512), 4096),
        (shape(MapType::PercpuArray, 0, 4, 16, 1000), 1000 * (8 + 16 * 4)),
        (shape(MapType::Hash, no_prealloc, 8, 8, 1000), 1024 * 16),
        (shape(MapType::Hash, 0, 20, 12, 2048), 2048 * 16 + 2052 * 88 + 32),
        (shape(MapType::Array, libbpf_sys::BPF_F_MMAPABLE, 4, 64, 4096), 4096 + 4096 * 64),
    ] {
        assert_eq!(map.bytes(4), bytes, "{map:?}");
    }
}

#[test]
fn what_stays_takes_nothing() {
    let running = runs(&[100, 100], table(0..2));
    let with = |writes| plan(&running, &steps(None, writes));
    assert_eq!(with(vec![]), None);
    assert_eq!(with(vec![Write::Rings(vec![(0, image())])]), None, "a ring that is replaced");
    assert_eq!(with(vec![Write::Rings(vec![(7, image())]), Write::RemoveRings(vec![7])]), None);
    let more = with(vec![Write::Rings(vec![(2, image())])]).unwrap();
    assert_eq!((more.rings, more.additional), (3 * ring(), ring()));
}

#[test]
fn a_first_apply_takes_everything() {
    let maps = [
        MapShape { kind: MapType::Array, flags: 0, key_size: 4, value_size: 8, max_entries: 10 },
        MapShape {
            kind: MapType::PercpuArray,
            flags: 0,
            key_size: 4,
            value_size: 8,
            max_entries: 1,
        },
    ];
    let mut wanted = table(0..2).table();
    wanted.server_ids.insert(7, [10, 0, 0, 1].into());
    let steps = steps(Some(&[1000, 1000]), vec![Write::Rings(vec![(0, image()), (1, image())])]);
    let host = Host { maps: maps.into(), nodes: nodes(), possible_cpus: 4, ..Host::default() };
    let plan = MemoryPlan::new(&Snapshot::default(), &steps, &wanted, &host).unwrap();
    assert_eq!(plan.counters, 8 + 8 * 4);
    assert_eq!(plan.other, 80 + vip_index() + (48 + 8 + 8 + 8));
    assert_eq!(plan.rings, 2 * ring());
    assert_eq!(plan.shared_table, connection_table(SHARED_TABLE_ENTRIES));
    let tables: u64 = plan.tables.iter().map(|table| table.bytes).sum();
    assert_eq!(tables, 2 * connection_table(1000));
    assert_eq!(plan.total, tables + plan.shared_table + plan.rings + plan.counters + plan.other);
    assert_eq!(plan.additional, plan.total);
}

/// Tables are copied into their successors: for a while, both exist.
#[test]
fn tables_are_replaced() {
    let (small, large) = (connection_table(1 << 10), connection_table(1 << 20));
    let change = |before: &[u32], after: &[u32]| {
        plan(&runs(before, Running::default()), &steps(Some(after), vec![])).unwrap()
    };
    let additional = |before: &[u32], after: &[u32]| change(before, after).additional;
    assert_eq!(additional(&[1 << 10; 2], &[1 << 20; 2]), 2 * large);
    assert_eq!(additional(&[1 << 20; 2], &[1 << 10; 2]), 2 * small);
    assert_eq!(additional(&[1 << 20], &[1 << 20; 2]), large, "the first stays as it is");
    assert_eq!(additional(&[1 << 20; 2], &[1 << 20]), 0);

    let plan = change(&[1 << 10; 4], &[1 << 20; 4]);
    assert_eq!(plan.additional_on, [(0, 2 * large), (1, 2 * large)].into());
    let text = plan.to_string();
    assert!(text.contains("connection tables 4 x 109.1 MB"), "{text}");
    assert!(text.contains("more than now while old and new maps exist together"), "{text}");
    assert!(text.contains("NUMA node 1 holds the tables of CPUs 2,3: 218.1 MB"), "{text}");
}

/// Rings are replaced some hundred at a time.
#[test]
fn rings_are_replaced_in_groups() {
    let writes = vec![Write::Rings((0..400).map(|id| (id, image())).collect())];
    let plan = plan(&runs(&[100], table(0..400)), &steps(Some(&[200]), writes)).unwrap();
    // The smaller table is removed before the rings are written.
    let larger = connection_table(200) - connection_table(100);
    assert_eq!(plan.additional, larger + 256 * ring());
    assert_eq!(plan.rings, 400 * ring());
}

/// An apply was killed in a control group of 24 MB, which had room for its maps.
#[test]
fn loading_the_program_takes_more_than_the_maps() {
    let steps = Steps { replace_program: true, ..steps(Some(&[1000, 1000]), vec![]) };
    let plan = plan(&Snapshot::default(), &steps).unwrap();
    assert!(plan.additional < 10_000_000 && plan.loading >= 30_000_000, "{plan:?}");
    assert!(plan.to_string().contains("while the kernel verifies the program"), "{plan}");
    let group =
        |left| Available { groups: [("/small".to_owned(), left)].into(), ..Available::default() };
    let error = group(24 << 20).check(&plan).unwrap_err().to_string();
    assert!(error.contains("in the control group /small"), "{error}");
    assert!(error.contains("while the kernel verifies the program"), "{error}");
    assert!(group(64 << 20).check(&plan).is_ok());
}

/// No map is created: another program uses the same tables.
#[test]
fn loading_another_program_takes_as_much() {
    let refused = |left| {
        let groups = [("/small".to_owned(), left)].into();
        let memory = Available { groups, ..Available::default() };
        let load = Steps { replace_program: true, ..steps(None, vec![]) };
        let mut plan = Plan { steps: load, ..Plan::default() };
        let host = Host { possible_cpus: 4, memory, ..Host::default() };
        let running = runs(&[1000], Running::default());
        let planned = plan_memory(&mut plan, &running, &Table::default(), &host);
        assert!(plan.memory.is_none(), "maps stay as they are");
        planned.map_err(|error| error.to_string())
    };
    let error = refused(24 << 20).unwrap_err();
    assert!(error.contains("while the kernel verifies the program"), "{error}");
    assert_eq!(refused(64 << 20), Ok(()));
}

#[test]
fn what_does_not_fit_is_refused() {
    let plan = plan(&runs(&[], Running::default()), &steps(Some(&[1 << 20; 4]), vec![])).unwrap();
    let half = plan.additional / 2;
    let memory = |host, group, nodes: [(u64, u64); 2]| Available {
        host: Some(host),
        groups: [("/system.slice/l4lb.service".to_owned(), group)].into(),
        nodes: (0..).zip(nodes.map(|(free, available)| NodeMemory { free, available })).collect(),
    };
    let enough = [(half, half); 2];
    let fits = memory(2 * half, 2 * half, enough);
    assert!(fits.check(&plan).is_ok());
    assert!(fits.warnings(&plan).is_empty());
    assert!(Available::default().check(&plan).is_ok(), "what is not known does not limit");
    for (short, words) in [
        (
            memory(2 * half - 1, 2 * half, enough),
            ["436.2 MB more than now", "on this host", "connection_table.entries"],
        ),
        (
            memory(2 * half, half, enough),
            [
                "218.1 MB are available",
                "in the control group /system.slice/l4lb.service",
                "connection_table.entries",
            ],
        ),
        (
            memory(2 * half, 2 * half, [(half, half), (half / 2, half / 2)]),
            [
                "218.1 MB more than now (connection tables 4 x 109.1 MB",
                "109.1 MB are available on NUMA node 1",
                "connection_table.cpus",
            ],
        ),
    ] {
        let error = short.check(&plan).unwrap_err().to_string();
        for word in words {
            assert!(error.contains(word), "'{word}' is not in: {error}");
        }
    }
    // Caches of a node are memory too, but another node's is taken first.
    let caches = memory(2 * half, 2 * half, [(half, half), (half - 1, half)]);
    assert!(caches.check(&plan).is_ok());
    let warnings = caches.warnings(&plan).join("\n");
    assert!(warnings.starts_with("NUMA node 1 has 218.1 MB of free memory"), "{warnings}");
    assert!(memory(0, 0, enough).check(&MemoryPlan::default()).is_ok(), "what takes nothing fits");
}

#[test]
fn many_rings_are_what_to_lower() {
    let writes = vec![Write::Rings((0..100).map(|id| (id, image())).collect())];
    let plan = plan(&runs(&[100], Running::default()), &steps(None, writes)).unwrap();
    let error = Available { host: Some(1), ..Available::default() }.check(&plan).unwrap_err();
    assert!(error.to_string().contains("lower the number of [[vips]]"), "{error}");
}
