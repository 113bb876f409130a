//! What the verifier spends on each program, and how much of the kernel's limits the program uses, compared with
//! `tests/budgets.toml`. After a change that is worth its cost:
//!
//! ```text
//! LB_WRITE_BUDGETS=1 cargo test --test suite budgets
//! ```
//!
//! Programs are loaded a second time beside those that `lbctl` has loaded, with the same knobs: these decide
//! what the verifier gets to see.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;

use libbpf_rs::AsRawLibbpf;
use libbpf_rs::MapCore;
use libbpf_rs::MapFlags;
use libbpf_rs::MapHandle;
use libbpf_rs::Object;
use libbpf_rs::ObjectBuilder;
use libbpf_rs::ProgramHandle;
use libbpf_rs::query::ProgInfoIter;
use libbpf_rs::query::ProgInfoQueryOptions;
use serde::Deserialize;
use serde::Serialize;

use crate::capture::filter::judges;
use crate::control::tunnel;
use crate::fixtures::Host;
use crate::fixtures::UPLINK;
use crate::fixtures::vip;

include!(concat!(env!("OUT_DIR"), "/objects.rs"));

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/budgets.toml");

const HEAD: &str = "\
# The most that each program may cost: instructions that the verifier went through, instructions that it left,
# and bytes of stack. A tenth above what it was when this was written, by
#   LB_WRITE_BUDGETS=1 cargo test --test suite budgets
# A budget that is a quarter above what a program costs is stale, and fails as well.

";

/// `BPF_LOG_STATS` of the kernel: a summary instead of every step.
const LOG_STATS: u32 = 4;

/// What a program costs, or may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Cost {
    /// Instructions that the verifier went through, by every way it had to follow.
    verified: u32,
    /// Instructions that it left of the program.
    instructions: u32,
    /// Bytes of stack, of 512.
    stack: u32,
}

impl Cost {
    fn parts(self) -> [(&'static str, u32); 3] {
        let Self { verified, instructions, stack } = self;
        [
            ("instructions verified", verified),
            ("instructions", instructions),
            ("bytes of stack", stack),
        ]
    }

    /// A tenth more, in round numbers.
    fn budget(self) -> Self {
        let more =
            |cost: u32| (cost + cost / 10).next_multiple_of(if cost < 1000 { 8 } else { 100 });
        Self {
            verified: more(self.verified),
            instructions: more(self.instructions),
            stack: more(self.stack).min(512),
        }
    }
}

/// `tests/budgets.toml`
#[derive(Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Budgets {
    /// The compiler that the figures are those of, by its major version.
    clang: u32,
    /// The kernel, by its first two numbers: verifiers differ.
    kernel: String,
    /// By program.
    programs: BTreeMap<String, Cost>,
}

#[test]
fn programs_cost_what_is_budgeted() {
    let host = Host::new();
    host.lbctl().apply(&Host::config(&vip("tcp://10.200.1.1:80", &["10.0.0.1", "fc00::1"])));
    host.lbctl().ok(&["decap", "attach", UPLINK, "--mss", "auto"]);
    host.ns.shell("ip route add 10.200.1.1 via 172.31.0.254");
    let path = tunnel::ensure(&host.bpffs, &host.ns, &["10.200.1.1".parse().expect("an address")]);
    assert_eq!(path.obstacles, [].into());
    let mut capture = host.lbctl().spawn(&["dump", "--at", "both"]);
    capture.wait_for("capturing");
    let costs: BTreeMap<_, _> = OBJECTS
        .iter()
        .flat_map(|(name, object)| {
            costs(name, object, &read_only_data(running(&host, name).as_fd()))
        })
        .collect();

    let now = Budgets {
        clang: clang_version(),
        kernel: kernel(),
        programs: costs.iter().map(|(name, cost)| (name.clone(), cost.budget())).collect(),
    };
    if std::env::var_os("LB_WRITE_BUDGETS").is_some() {
        let text = toml::to_string(&now).expect("budgets are TOML");
        std::fs::write(FILE, HEAD.to_owned() + &text).expect("the file is written");
    }
    let text = std::fs::read_to_string(FILE).expect("tests/budgets.toml can be read");
    let budgets: Budgets = toml::from_str(&text).expect("tests/budgets.toml can be parsed");
    if (budgets.clang, &budgets.kernel) != (now.clang, &now.kernel) {
        let Budgets { clang, kernel, .. } = budgets;
        let here = format!("{CLANG} and Linux {}", now.kernel);
        println!("skipped: the budgets are for clang {clang} and Linux {kernel}, this is {here}");
        println!("{costs:#?}");
        return;
    }
    let wrong = differences(&budgets.programs, &costs);
    assert!(
        wrong.is_empty(),
        "{}\nIf that is worth it: LB_WRITE_BUDGETS=1 cargo test --test suite budgets",
        wrong.join("\n")
    );
}

/// What is not as budgeted, one line each.
fn differences(budgets: &BTreeMap<String, Cost>, costs: &BTreeMap<String, Cost>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (program, cost) in costs {
        let Some(budget) = budgets.get(program) else {
            wrong.push(format!("{program}: has no budget in tests/budgets.toml"));
            continue;
        };
        for ((what, cost), (_, budget)) in cost.parts().into_iter().zip(budget.parts()) {
            if cost > budget {
                wrong.push(format!("{program}: {cost} {what}, budget {budget}: too many"));
            } else if budget > cost + cost / 4 + 8 {
                wrong.push(format!(
                    "{program}: {cost} {what}, budget {budget}: stale, it may be lower"
                ));
            }
        }
    }
    let gone = budgets.keys().filter(|program| !costs.contains_key(*program));
    wrong.extend(gone.map(|program| format!("{program}: has a budget, but is no program")));
    wrong
}

#[test]
fn differences_are_reported() {
    let one = |verified, stack| {
        let cost = Cost { verified, instructions: 100, stack };
        BTreeMap::from([("balancer".to_owned(), cost)])
    };
    assert_eq!(differences(&one(40_000, 320), &one(40_000, 320)), [""; 0]);
    assert_eq!(
        differences(&one(40_000, 320), &one(41_200, 328)),
        [
            "balancer: 41200 instructions verified, budget 40000: too many",
            "balancer: 328 bytes of stack, budget 320: too many"
        ]
    );
    assert_eq!(
        differences(&one(40_000, 320), &one(30_000, 320)),
        ["balancer: 30000 instructions verified, budget 40000: stale, it may be lower"]
    );
    assert_eq!(
        differences(&BTreeMap::new(), &one(1, 1)),
        ["balancer: has no budget in tests/budgets.toml"]
    );
    assert_eq!(
        differences(&one(1, 1), &BTreeMap::new()),
        ["balancer: has a budget, but is no program"]
    );
    let cost = Cost { verified: 3_141, instructions: 271, stack: 500 };
    assert_eq!(cost.budget(), Cost { verified: 3_500, instructions: 304, stack: 512 });
}

/// A program of an object, as `lbctl` has loaded it.
fn running(host: &Host, object: &str) -> OwnedFd {
    let instance = host.bpffs.path().join("l4lb/default");
    // Only a filter leads to the one, and a link to the other; but none of another test has the same maps.
    let (function, map) = match object {
        "copy" => ("capture_entry", "captures"),
        "healthcheck" => ("healthcheck", "reals"),
        "mss" => ("mss", "mss_limits"),
        _ => return judges::pinned(&instance.join("prog").join(object)).expect("it is pinned"),
    };
    let ours = MapHandle::from_pinned_path(instance.join("map").join(map)).expect("open a pin");
    let ours = ours.info().expect("ask about a map").info.id;
    let options = ProgInfoQueryOptions::default().include_map_ids(true);
    let program = ProgInfoIter::with_query_opts(options)
        .find(|program| program.name == function && program.map_ids.contains(&ours));
    let id = program.unwrap_or_else(|| panic!("{function} runs")).id;
    let program = ProgramHandle::from_prog_id(id).expect("open a program");
    program.as_fd().try_clone_to_owned().expect("duplicate a descriptor")
}

/// Loads the programs of an object, with this read-only data.
fn costs(name: &str, object: &[u8], read_only_data: &[u8]) -> Vec<(String, Cost)> {
    let mut open = ObjectBuilder::default()
        .open_memory(object)
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    for mut map in open.maps_mut() {
        if map.name().to_string_lossy().ends_with(".rodata") {
            map.set_initial_value(read_only_data).expect("the same read-only data");
        }
    }
    let mut logs = BTreeMap::new();
    for mut program in open.progs_mut() {
        let section = program.section().to_string_lossy().into_owned();
        let is_ours = section.starts_with("xdp") || section == "tc";
        program.set_autoload(is_ours);
        if is_ours {
            program.set_log_level(LOG_STATS);
            let log = logs
                .entry(program.name().to_string_lossy().into_owned())
                .or_insert_with(|| vec![0_u8; 1 << 16]);
            #[expect(unsafe_code, reason = "libbpf-rs has no such call")]
            // SAFETY: the buffer is not moved, and lives until the object is loaded and beyond.
            let done = unsafe {
                libbpf_sys::bpf_program__set_log_buf(
                    program.as_libbpf_object().as_ptr(),
                    log.as_mut_ptr().cast(),
                    log.len() as _,
                )
            };
            assert_eq!(done, 0, "{name}: no log");
        }
    }
    let loaded = open.load().unwrap_or_else(|error| panic!("{name}: {error}"));
    let costs = logs.iter().map(|(program, log)| {
        let log = String::from_utf8_lossy(log);
        let cost = cost(&loaded, program, log.trim_end_matches('\0'));
        (program.clone(), cost)
    });
    costs.collect()
}

/// What a loaded program costs. The verifier says in its log:
///
/// ```text
/// stack depth 320
/// processed 41200 insns (limit 1000000) …
/// ```
///
/// with the depths of subprograms behind it: `320+16`.
fn cost(object: &Object, program: &str, log: &str) -> Cost {
    let after = |what: &str| {
        let found = log.lines().find_map(|line| line.strip_prefix(what));
        found.unwrap_or_else(|| panic!("{program}: no '{what}' in the verifier's log:\n{log}"))
    };
    let number = |text: &str| -> u32 { text.parse().unwrap_or_else(|_| panic!("{log}")) };
    let loaded = object.progs().find(|loaded| loaded.name().to_string_lossy() == program);
    let info = info(loaded.expect("it was loaded").as_fd(), &mut []);
    let verified = number(after("processed ").split(' ').next().unwrap_or_default());
    assert_eq!(verified, info.verified_insns, "{program}: the kernel agrees with its log");
    let stack =
        after("stack depth ").split(['+', ' ']).map_while(|depth| depth.parse::<u32>().ok());
    Cost { verified, instructions: info.xlated_prog_len / 8, stack: stack.sum() }
}

/// The content of a program's `.rodata`.
fn read_only_data(program: BorrowedFd<'_>) -> Vec<u8> {
    let mut ids = [0; 64];
    let count = info(program, &mut ids).nr_map_ids as usize;
    let maps = ids.into_iter().take(count).map(|id| MapHandle::from_map_id(id).expect("a map"));
    let data = maps.into_iter().find(|map| map.name().to_string_lossy().ends_with(".rodata"));
    // The program mss has none.
    let Some(data) = data else { return Vec::new() };
    let data = data.lookup(&0_u32.to_ne_bytes(), MapFlags::ANY);
    data.expect("it can be read").expect("it has one value")
}

/// What the kernel says about a program, and the ids of its maps.
fn info(program: BorrowedFd<'_>, maps: &mut [u32]) -> libbpf_sys::bpf_prog_info {
    let mut info = libbpf_sys::bpf_prog_info {
        nr_map_ids: u32::try_from(maps.len()).expect("few"),
        map_ids: maps.as_mut_ptr() as u64,
        ..Default::default()
    };
    let mut length = u32::try_from(size_of_val(&info)).expect("short");
    #[expect(unsafe_code, reason = "libbpf-rs does not tell all of it")]
    // SAFETY: both lengths are those of what the kernel writes to.
    let done = unsafe {
        libbpf_sys::bpf_prog_get_info_by_fd(program.as_raw_fd(), &raw mut info, &raw mut length)
    };
    assert_eq!(done, 0, "ask about a program");
    info
}

/// The major version of the compiler: `clang version 19.1.7 …`, with the name of a distribution in front.
fn clang_version() -> u32 {
    let version = CLANG.split("version ").nth(1).and_then(|rest| rest.split('.').next());
    version
        .and_then(|major| major.parse().ok())
        .unwrap_or_else(|| panic!("no version in '{CLANG}'"))
}

/// The first two numbers of the kernel's version.
fn kernel() -> String {
    let release =
        nix::sys::utsname::uname().expect("uname").release().to_string_lossy().into_owned();
    release.splitn(3, '.').take(2).collect::<Vec<_>>().join(".")
}
