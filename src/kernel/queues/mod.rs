//! Which CPUs receive packets: those that serve the interrupts of an interface's receive queues.
//!
//! Native XDP runs where the interrupt is served. In generic mode it runs after receive packet steering (RPS), so the
//! CPUs of RPS count as well.
//!
//! If in doubt, a CPU counts: one connection table too many costs memory, one too few costs connections.

use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;

use crate::kernel::host::Files;
use crate::kernel::host::entries;
use crate::kernel::host::list;
use crate::kernel::host::text;
use crate::model::config::XdpMode;
use crate::model::cpu_list::MAX_TOLD_CPUS;
use crate::model::error::Result;

/// The CPUs that may receive packets of the interfaces. All online CPUs, if one of the interfaces has no interrupts of
/// its own, as virtual interfaces, or if there is no interface.
///
/// Each interface is a name, an index and the mode of XDP.
pub(crate) fn receiving<'a>(
    files: &Files,
    interfaces: impl IntoIterator<Item = (&'a str, u32, XdpMode)>,
) -> Result<BTreeSet<u32>> {
    let online = files.online_cpus()?;
    let mut cpus = BTreeSet::new();
    for (name, ifindex, mode) in interfaces {
        let known = files.knows_interface(name, ifindex);
        match files.queue_cpus(name, mode != XdpMode::Native).filter(|_| known) {
            Some(served) => cpus.extend(served),
            None => return Ok(online),
        }
    }
    cpus.retain(|cpu| online.contains(cpu));
    Ok(if cpus.is_empty() { online } else { cpus })
}

/// What an interrupt of an interface is for, as far as its name tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// A receive queue, perhaps with a transmit queue.
    Receive,
    /// Transmit queues only, or events of the card itself.
    Other,
    /// Its name is the interface's name: it is for everything, or, if there are other interrupts, for the link.
    Bare,
    /// The name does not tell.
    Unknown,
}

/// Words in the names of interrupts that receive no packets.
const NO_QUEUE: [&str; 22] = [
    "admin", "adminq", "aq", "async", "cmd", "config", "control", "ctrl", "err", "error", "event",
    "fdir", "hwc", "link", "lsc", "mbox", "mgmnt", "mgmt", "misc", "other", "pages", "ptp",
];

/// An interrupt that a driver uses.
#[derive(Clone, Debug)]
struct Interrupt {
    number: u32,
    role: Role,
    /// The number at the end of its name. For names of queues, it is the queue's number.
    queue: Option<u32>,
}

impl Interrupt {
    fn new(number: u32, interface: &str, action: &str) -> Self {
        let digits = action.len() - action.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        Self {
            number,
            role: role(interface, action),
            queue: action[action.len() - digits..].parse().ok(),
        }
    }
}

fn role(interface: &str, action: &str) -> Role {
    // The interface's own name may contain such words.
    let rest = action.replacen(interface, "", 1).to_lowercase();
    if rest.is_empty() {
        return Role::Bare;
    }
    let words = rest
        .split(|c: char| !c.is_ascii_alphanumeric())
        .map(|word| word.trim_end_matches(|c: char| c.is_ascii_digit()));
    let any = |test: &dyn Fn(&str) -> bool| words.clone().any(test);
    if any(&|word| NO_QUEUE.contains(&word)) {
        Role::Other
    } else if any(&|word| word.starts_with("rx") || word.ends_with("rx") || word == "input") {
        Role::Receive
    } else if any(&|word| word == "tx" || word == "output") {
        Role::Other
    } else {
        Role::Unknown
    }
}

/// Keeps the interrupts of receive queues. Keeps all, if the names do not tell.
fn of_receive_queues(mut interrupts: Vec<Interrupt>, queues: usize) -> Vec<Interrupt> {
    let has = |wanted: &[Role]| interrupts.iter().any(|i| wanted.contains(&i.role));
    let queue_roles: &[Role] = if has(&[Role::Receive, Role::Unknown]) {
        &[Role::Receive, Role::Unknown]
    } else if has(&[Role::Bare]) {
        &[Role::Bare]
    } else {
        return interrupts;
    };
    interrupts.retain(|interrupt| queue_roles.contains(&interrupt.role));
    // Drivers such as virtio_net have interrupts for more queues than they use ('ethtool -L').
    let numbered = interrupts.iter().all(|i| i.role == Role::Receive && i.queue.is_some());
    if numbered && queues != 0 {
        interrupts.sort_by_key(|interrupt| interrupt.queue);
        interrupts.truncate(queues);
    }
    interrupts
}

/// The CPUs of a mask in hexadecimal digits, such as `00000000,0000000f`.
fn mask(text: &str) -> BTreeSet<u32> {
    let most = MAX_TOLD_CPUS as usize / 4;
    let digits = text.chars().rev().filter_map(|c| c.to_digit(16)).take(most);
    (0..)
        .step_by(4)
        .zip(digits)
        .flat_map(|(first, digit)| {
            (0..4).filter(move |bit| digit >> bit & 1 != 0).map(move |bit| first + bit)
        })
        .collect()
}

/// The interrupts of a card's receive queues.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Interrupts {
    pub(crate) numbers: Vec<u32>,
    /// The CPUs that receive packets.
    pub(crate) cpus: BTreeSet<u32>,
}

impl Files {
    /// The interrupts of an interface's receive queues, and the CPUs that receive packets, with those of receive
    /// packet steering if it is `steered`. `None`: it has no interrupts, or any CPU may serve them.
    pub(crate) fn receive_interrupts(&self, interface: &str, steered: bool) -> Option<Interrupts> {
        let dir = self.interface(interface);
        let numbers =
            self.queue_interrupts(interface, dir.join("device").exists().then_some(&dir)?);
        let cpus = self.queue_cpus(interface, steered)?;
        Some(Interrupts { numbers, cpus })
    }

    /// The folder of an interface in sysfs.
    pub(crate) fn interface(&self, name: &str) -> PathBuf {
        self.sys.join("class/net").join(name)
    }

    /// Whether sysfs describes the interface of this number. A sysfs that was mounted in another network namespace
    /// shows the interfaces of that namespace.
    pub(crate) fn knows_interface(&self, name: &str, ifindex: u32) -> bool {
        let index = text(&self.interface(name).join("ifindex"));
        index.is_some_and(|index| index == ifindex.to_string())
    }

    /// The CPUs that serve an interface's receive queues; `None`: any CPU may.
    fn queue_cpus(&self, interface: &str, steered: bool) -> Option<BTreeSet<u32>> {
        let dir = self.interface(interface);
        // The scheduler may run threads that poll the queues on any CPU (Linux 5.12).
        if text(&dir.join("threaded")).is_some_and(|threaded| threaded != "0") {
            return None;
        }
        let mut cpus = BTreeSet::new();
        // A bond, VLAN or bridge receives packets through the interfaces below it.
        for (name, _) in entries(&dir) {
            if let Some(lower) = name.strip_prefix("lower_") {
                cpus.extend(self.queue_cpus(lower, steered)?);
            }
        }
        if dir.join("device").exists() {
            cpus.extend(self.interrupt_cpus(interface, &dir)?);
        }
        if steered {
            let queues = entries(&dir.join("queues")).into_iter();
            let masks = queues.filter_map(|(_, queue)| text(&queue.join("rps_cpus")));
            cpus.extend(masks.flat_map(|text| mask(&text)));
        }
        (!cpus.is_empty()).then_some(cpus)
    }

    /// The CPUs that serve the interrupts of a card's receive queues; `None`: that is not known.
    fn interrupt_cpus(&self, interface: &str, dir: &Path) -> Option<BTreeSet<u32>> {
        let mut cpus = BTreeSet::new();
        for number in self.queue_interrupts(interface, dir) {
            let dir = self.proc.join("irq").join(number.to_string());
            // The CPU that the kernel chose among the allowed ones, if it tells.
            let served = ["effective_affinity_list", "smp_affinity_list"]
                .iter()
                .find_map(|file| list(&dir.join(file)).filter(|cpus| !cpus.is_empty()));
            cpus.extend(served?);
        }
        (!cpus.is_empty()).then_some(cpus)
    }

    /// The interrupts of a card's receive queues, as far as their names tell.
    fn queue_interrupts(&self, interface: &str, dir: &Path) -> Vec<u32> {
        // An interrupt without a name is not in use. While an interface is down, all of its interrupts are so.
        let interrupts = self.interrupts(interface, &dir.join("device"));
        let queues = entries(&dir.join("queues")).into_iter();
        let queues = queues.filter(|(name, _)| name.starts_with("rx-")).count();
        let interrupts = of_receive_queues(interrupts, queues).into_iter();
        interrupts.map(|interrupt| interrupt.number).collect()
    }

    /// The interrupts that a device's driver uses.
    fn interrupts(&self, interface: &str, device: &Path) -> Vec<Interrupt> {
        let numbers = self.interrupt_numbers(device);
        let used = |number: u32| {
            let actions = self.actions(number)?;
            // An interrupt that several devices share has several names.
            let own = actions.split(',').find(|action| action.contains(interface));
            Some(Interrupt::new(number, interface, own.unwrap_or(&actions)))
        };
        if !numbers.is_empty() {
            return numbers.into_iter().filter_map(used).collect();
        }
        // A platform device has no list. The names of its interrupts contain its own name, or the interface's.
        let device = device.canonicalize().unwrap_or_default();
        let device = device.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_own = |number: &u32| {
            let word = |c: char| c == ',' || c == '-';
            self.actions(*number).is_some_and(|actions| {
                actions.split(word).any(|word| word == interface || word == device)
            })
        };
        let all = entries(&self.sys.join("kernel/irq")).into_iter();
        all.filter_map(|(name, _)| name.parse().ok()).filter(is_own).filter_map(used).collect()
    }

    /// The names that drivers give an interrupt.
    fn actions(&self, number: u32) -> Option<String> {
        let path = self.sys.join("kernel/irq").join(number.to_string()).join("actions");
        text(&path).filter(|actions| !actions.is_empty())
    }

    /// The interrupts of a device, used or not. A virtio device, or another device on a PCI device, has those of its
    /// parent.
    fn interrupt_numbers(&self, device: &Path) -> Vec<u32> {
        let (Ok(device), Ok(root)) = (device.canonicalize(), self.sys.canonicalize()) else {
            return Vec::new();
        };
        for dir in device.ancestors().take_while(|dir| *dir != root) {
            let several = entries(&dir.join("msi_irqs"));
            if !several.is_empty() {
                return several.into_iter().filter_map(|(name, _)| name.parse().ok()).collect();
            }
            // Every PCI device has this file. A bridge above it has its own interrupts.
            if let Some(one) = text(&dir.join("irq")) {
                return one.parse().into_iter().filter(|number| *number != 0).collect();
            }
        }
        Vec::new()
    }
}

#[cfg(test)]
mod tests;
