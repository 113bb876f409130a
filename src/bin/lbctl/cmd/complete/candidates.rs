//! What may stand for an argument: VIPs, reals, interfaces, programs, checks and instances as they are now.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::sync::Arc;

use clap::Arg;
use clap::Command;
use clap_complete::engine::ArgValueCandidates;
use clap_complete::engine::CompletionCandidate;
use l4lb::Balancer;
use l4lb::DEFAULT_BPFFS;
use l4lb::DEFAULT_INSTANCE;
use l4lb::Instance;
use l4lb::Table;
use l4lb::Vip;
use l4lb::chain;

/// The command, with candidates for the values of its arguments. The words say which instance is meant, and which VIP.
pub(super) fn offer(command: Command, words: &[OsString]) -> Command {
    let words: Vec<_> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    offer_in(command, &Arc::new(Typed { words }))
}

fn offer_in(command: Command, typed: &Arc<Typed>) -> Command {
    let command = command.mut_args(|arg| match values_of(&arg) {
        Some(values) => {
            let typed = Arc::clone(typed);
            arg.add(ArgValueCandidates::new(move || values(&typed).unwrap_or_default()))
        }
        None => arg,
    });
    command.mut_subcommands(|command| offer_in(command, typed))
}

type Values = fn(&Typed) -> Option<Vec<CompletionCandidate>>;

/// What stands for an argument, by its name or by what help calls its value.
fn values_of(arg: &Arg) -> Option<Values> {
    let called =
        arg.get_value_names().and_then(|names| names.first()).map(clap::builder::Str::as_str);
    let values: Values = match (arg.get_id().as_str(), called) {
        ("instance", _) => Typed::instances,
        ("check", Some("NAME")) => Typed::checks,
        ("reasons", _) => |_| Some(reasons()),
        ("targets", _) => Typed::vips_and_reals,
        ("real" | "reals", Some(_)) => Typed::reals,
        ("interface" | "interfaces", _) => |_| Some(interfaces()),
        (_, Some("SLOT|NAME")) => Typed::programs,
        ("vip" | "vips", Some("VIP")) => Typed::vips,
        _ => return None,
    };
    Some(values)
}

/// The words that were typed so far.
#[derive(Debug)]
struct Typed {
    words: Vec<String>,
}

impl Typed {
    /// What was typed for an option of every command, or set in the environment.
    fn option(&self, name: &str, variable: &str, default: &str) -> String {
        let given = self.words.iter().enumerate().find_map(|(n, word)| {
            let rest = word.strip_prefix(name)?;
            match rest.strip_prefix('=') {
                Some(value) => Some(value.to_owned()),
                None if rest.is_empty() => self.words.get(n + 1).cloned(),
                None => None,
            }
        });
        let set = || std::env::var(variable).ok();
        given.or_else(set).unwrap_or_else(|| default.to_owned())
    }

    fn bpffs(&self) -> String {
        self.option("--bpffs", "LBCTL_BPFFS", DEFAULT_BPFFS)
    }

    fn instance(&self) -> Option<Instance> {
        let name = self.option("--instance", "LBCTL_INSTANCE", DEFAULT_INSTANCE);
        Instance::new(self.bpffs(), &name).ok()
    }

    fn table(&self) -> Option<Table> {
        Balancer::open(&self.instance()?).ok()?.table().ok()
    }

    fn instances(&self) -> Option<Vec<CompletionCandidate>> {
        let instances = Instance::all(self.bpffs()).ok()?;
        Some(plain(instances.iter().map(Instance::name)))
    }

    fn vips(&self) -> Option<Vec<CompletionCandidate>> {
        Some(vips_of(&self.table()?))
    }

    /// The reals of the VIPs that were typed; of all, if none was.
    fn reals(&self) -> Option<Vec<CompletionCandidate>> {
        let table = self.table()?;
        let typed: BTreeSet<Vip> = self.words.iter().filter_map(|word| word.parse().ok()).collect();
        let of = |vip: &Vip| typed.is_empty() || typed.contains(vip);
        let vips = table.vips.iter().filter(|(vip, _)| of(vip));
        let reals: BTreeSet<_> = vips.flat_map(|(_, spec)| spec.reals.keys().copied()).collect();
        Some(plain(reals))
    }

    /// VIPs first, then the reals.
    fn vips_and_reals(&self) -> Option<Vec<CompletionCandidate>> {
        if self.words.iter().any(|word| word == "--all" || word.contains("://")) {
            // The word that is being typed may be a VIP as well.
            let vip_begun = self.words.last().is_some_and(|word| word.contains("://"));
            return if vip_begun { self.vips() } else { self.reals() };
        }
        self.vips()
    }

    fn checks(&self) -> Option<Vec<CompletionCandidate>> {
        Some(plain(self.table()?.checks.keys()))
    }

    fn programs(&self) -> Option<Vec<CompletionCandidate>> {
        let slots = chain::list(&self.instance()?).ok()?;
        Some(plain(slots.iter().map(|slot| &slot.name)))
    }
}

fn plain<T: ToString>(values: impl IntoIterator<Item = T>) -> Vec<CompletionCandidate> {
    values.into_iter().map(|value| CompletionCandidate::new(value.to_string())).collect()
}

fn vips_of(table: &Table) -> Vec<CompletionCandidate> {
    let vips = table.vips.iter().map(|(vip, spec)| {
        let help = match spec.reals.len() {
            1 => "1 real".to_owned(),
            reals => format!("{reals} reals"),
        };
        CompletionCandidate::new(vip.to_string()).help(Some(help.into()))
    });
    vips.collect()
}

fn reasons() -> Vec<CompletionCandidate> {
    let reason = |reason: &l4lb::Reason| {
        CompletionCandidate::new(reason.name).help(Some(reason.help.into()))
    };
    l4lb::reasons().iter().map(reason).collect()
}

/// The interfaces of this host.
fn interfaces() -> Vec<CompletionCandidate> {
    let entries = fs::read_dir("/sys/class/net").into_iter().flatten();
    let names: BTreeSet<_> =
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    plain(names)
}
